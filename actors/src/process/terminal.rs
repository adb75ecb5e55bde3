//! The gateway's end of the terminal that a process runs on.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::io;
use std::os::fd::OwnedFd;
use tokio::net::unix::pipe::{Receiver, Sender};

/// Columns and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
}

/// What is typed into a terminal and what it shows. Dropped, it hangs up: the process gets a SIGHUP.
///
/// To the kernel both are ends of a pipe like any other, except that less than was asked for may be read or written
/// while there is more: so only "not now" is taken for that.
#[derive(Debug)]
pub struct Terminal {
    shows: Receiver,
    takes: Sender,
}

/// A new terminal: our end, and the process's. The caller sees to it that nothing is forked meanwhile.
pub(super) fn pair(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    fcntl_setfd(&ours, FdFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&ours, winsize(size))?;
    ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    pub(super) fn new(ours: OwnedFd) -> io::Result<Self> {
        let takes = Sender::from_owned_fd_unchecked(ours.try_clone()?)?;
        Ok(Self { shows: Receiver::from_owned_fd_unchecked(ours)?, takes })
    }

    /// What it shows next; nothing at its end.
    ///
    /// # Errors
    /// The terminal is broken.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.shows.readable().await?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// The same, as far as it has been shown already.
    ///
    /// # Errors
    /// There is nothing for now, or the terminal is broken.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.shows.try_read(buffer) {
            // So Linux says that nobody holds the other end any more.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            read => read,
        }
    }

    /// Types all of this, as the program takes it.
    ///
    /// # Errors
    /// The terminal is broken, or nobody holds the other end any more.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.takes.writable().await?;
            match self.takes.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Changes its size; the program is told by a signal.
    ///
    /// # Errors
    /// The terminal is broken.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        Ok(tcsetwinsize(&self.takes, winsize(size))?)
    }
}
