//! How the machine is, as `node.host.stats` and `system.info` tell it.

use serde_json::{Value, json};

/// The figures; `None` where they cannot be had. Reads files.
pub fn read() -> Option<Value> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let disk = rustix::fs::statvfs("/").ok();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut stats = figures(cpus, &memory, &load)?;
    if let Some(disk) = disk {
        stats["diskTotalBytes"] = json!(disk.f_blocks.saturating_mul(disk.f_frsize));
        stats["diskAvailableBytes"] = json!(disk.f_bavail.saturating_mul(disk.f_frsize));
    }
    Some(stats)
}

fn figures(cpus: usize, memory: &str, load: &str) -> Option<Value> {
    let bytes = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib.saturating_mul(1024))
    };
    let load: Vec<f64> = load.split_whitespace().take(3).filter_map(|word| word.parse().ok()).collect();
    Some(json!({
        "cpuCount": cpus,
        "loadAverage": <[f64; 3]>::try_from(load).ok()?,
        "memoryTotalBytes": bytes("MemTotal")?,
        "memoryFreeBytes": bytes("MemAvailable").or_else(|| bytes("MemFree"))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crabtree_protocol::params::nodes::HostStats;

    #[test]
    fn the_kernels_words_become_figures() {
        let memory = "MemTotal:        1000 kB\nMemFree:           10 kB\nMemAvailable:     400 kB\n";
        let stats = figures(4, memory, "0.5 1.25 2 1/100 4711\n").unwrap();
        let expected = json!({
            "cpuCount": 4, "loadAverage": [0.5, 1.25, 2.0], "memoryTotalBytes": 1_024_000, "memoryFreeBytes": 409_600,
        });
        assert_eq!(stats, expected);
        assert_eq!(figures(4, "MemTotal: x kB", "0 0 0"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_is_sound() {
        let stats: HostStats = serde_json::from_value(read().unwrap()).unwrap();
        assert!(stats.is_sound() && stats.disk_total_bytes.is_some());
    }
}
