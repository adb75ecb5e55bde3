//! What the system knows of this process; nothing where it does not tell (`/proc`).

use std::fs::read_to_string;

/// Clock ticks of a second in `/proc`: `USER_HZ`, which is 100 on every Linux this is built for.
const TICKS: f64 = 100.0;

/// See the module.
pub struct Process {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub cpu_seconds: f64,
    pub start_seconds: f64,
    pub threads: u64,
    pub open_fds: usize,
    pub max_fds: Option<u64>,
}

impl Process {
    /// As it is now.
    pub fn read() -> Option<Self> {
        let stat = read_to_string("/proc/self/stat").ok()?;
        // The name, in brackets, may hold anything; what follows it is counted from the third field.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = (field(14)? + field(15)?) as f64;
        Some(Self {
            resident_bytes: resident_bytes()?,
            virtual_bytes: field(23)?,
            cpu_seconds: ticks / TICKS,
            start_seconds: booted_at()? + field(22)? as f64 / TICKS,
            threads: field(20)?,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count(),
            max_fds: max_fds(),
        })
    }
}

/// Resident memory of this process, where the system tells it.
pub fn resident_bytes() -> Option<u64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// When the system was started, in seconds since 1970.
fn booted_at() -> Option<f64> {
    let stat = read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// None if there is no limit.
fn max_fds() -> Option<u64> {
    let limits = read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_known() {
        let before = Process::read().expect("/proc is there");
        assert!(before.resident_bytes > 1 << 20 && before.virtual_bytes >= before.resident_bytes);
        assert!(before.threads >= 1 && before.open_fds >= 3);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let age = now.as_secs_f64() - before.start_seconds;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(50) {}
        assert!(Process::read().expect("/proc is there").cpu_seconds > before.cpu_seconds);
    }
}
