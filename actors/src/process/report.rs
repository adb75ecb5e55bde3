//! What a guard tells the gateway over the lifeline: a line when its process has started or could not, and one when
//! that process and all it started have ended.

use std::fmt;
use std::str::FromStr;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Its guard was killed before it could tell; the process group was killed with it.
    Lost,
}

impl Exit {
    /// The name of the signal that ended it.
    pub fn signal_name(self) -> Option<String> {
        let Self::Signal(number) = self else { return None };
        Some(name_of(number).map_or_else(|| format!("SIG{number}"), |name| format!("SIG{name}")))
    }
}

/// The signals that end processes, by the numbers they have on this platform.
fn name_of(number: i32) -> Option<&'static str> {
    use rustix::process::Signal;
    Some(match Signal::from_named_raw(number)? {
        Signal::HUP => "HUP",
        Signal::INT => "INT",
        Signal::QUIT => "QUIT",
        Signal::ILL => "ILL",
        Signal::TRAP => "TRAP",
        Signal::ABORT => "ABRT",
        Signal::BUS => "BUS",
        Signal::FPE => "FPE",
        Signal::KILL => "KILL",
        Signal::USR1 => "USR1",
        Signal::SEGV => "SEGV",
        Signal::USR2 => "USR2",
        Signal::PIPE => "PIPE",
        Signal::ALARM => "ALRM",
        Signal::TERM => "TERM",
        Signal::XCPU => "XCPU",
        Signal::XFSZ => "XFSZ",
        Signal::SYS => "SYS",
        _ => return None,
    })
}

/// A line of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It runs, as this process.
    Started(u32),
    /// It could not be started: the number of the system's error.
    Failed(i32),
    /// It has ended, and so has all it started.
    Ended(Exit),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(pid) => write!(f, "started {pid}"),
            Self::Failed(error) => write!(f, "failed {error}"),
            Self::Ended(Exit::Code(code)) => write!(f, "exited {code}"),
            Self::Ended(Exit::Signal(signal)) => write!(f, "signalled {signal}"),
            Self::Ended(Exit::Lost) => f.write_str("lost 0"),
        }
    }
}

impl FromStr for Report {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (word, number) = line.split_once(' ').ok_or(())?;
        let number: i32 = number.parse().map_err(|_| ())?;
        match word {
            "started" => Ok(Self::Started(u32::try_from(number).map_err(|_| ())?)),
            "failed" => Ok(Self::Failed(number)),
            "exited" => Ok(Self::Ended(Exit::Code(number))),
            "signalled" => Ok(Self::Ended(Exit::Signal(number))),
            "lost" => Ok(Self::Ended(Exit::Lost)),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guard_says_is_understood() {
        let ends = [Exit::Code(3), Exit::Signal(9), Exit::Lost].map(Report::Ended);
        for report in [Report::Started(4711), Report::Failed(2)].into_iter().chain(ends) {
            assert_eq!(report.to_string().parse(), Ok(report));
        }
        for noise in ["", "started", "started -1", "exited x", "danced 1"] {
            assert_eq!(noise.parse::<Report>(), Err(()), "{noise}");
        }
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(Exit::Signal(9).signal_name().as_deref(), Some("SIGKILL"));
        assert_eq!(Exit::Signal(15).signal_name().as_deref(), Some("SIGTERM"));
        assert_eq!(Exit::Signal(6).signal_name().as_deref(), Some("SIGABRT"));
        assert_eq!(Exit::Signal(250).signal_name().as_deref(), Some("SIG250"));
        assert_eq!(Exit::Code(9).signal_name(), None);
    }
}
