//! How many sockets of one address may be open without having authenticated. It is part of the Estate: no
//! actor's crash frees a place or takes one.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

type Table = Mutex<HashMap<IpAddr, usize>>;

/// See the module. There are never more entries than sockets.
#[derive(Default)]
pub struct PreAuth(Arc<Table>);

impl PreAuth {
    /// A place for one more socket of this address, unless `limit` of them are taken.
    pub fn take(&self, ip: IpAddr, limit: usize) -> Option<Arc<Place>> {
        let ip = ip.to_canonical();
        let mut table = self.0.lock();
        let taken = table.get(&ip).copied().unwrap_or_default();
        if taken >= limit {
            return None;
        }
        table.insert(ip, taken + 1);
        Some(Arc::new(Place { table: self.0.clone(), ip, left: AtomicBool::new(false) }))
    }

    /// Sockets that have not authenticated, over all addresses.
    pub fn count(&self) -> usize {
        self.0.lock().values().sum()
    }
}

/// The place of one socket: free again when it authenticates or ends.
pub struct Place {
    table: Arc<Table>,
    ip: IpAddr,
    left: AtomicBool,
}

impl Place {
    /// The socket has authenticated.
    pub fn leave(&self) {
        if self.left.swap(true, AcqRel) {
            return;
        }
        let mut table = self.table.lock();
        if let Some(taken) = table.get_mut(&self.ip) {
            *taken -= 1;
            if *taken == 0 {
                table.remove(&self.ip);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Place({})", self.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_socket_authenticates_or_ends() {
        let (preauth, ip) = (PreAuth::default(), IpAddr::from([127, 0, 0, 1]));
        let first = preauth.take(ip, 2).unwrap();
        let second = preauth.take("::ffff:127.0.0.1".parse().unwrap(), 2).unwrap();
        assert!(preauth.take(ip, 2).is_none());
        assert!(preauth.take([127, 0, 0, 2].into(), 2).is_some());
        first.leave();
        first.leave();
        let third = preauth.take(ip, 2).unwrap();
        assert!(preauth.take(ip, 2).is_none());
        drop((first, second, third));
        assert_eq!(preauth.count(), 0);
        assert!(preauth.0.lock().is_empty());
    }
}
