//! A pool of connections: who finds it empty waits.

use super::client::Connection;
use super::sys::sync::{Condvar, Mutex};

pub struct Pool {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
}

impl Pool {
    pub fn new(connections: Vec<Connection>) -> Pool {
        Pool {
            idle: Mutex::new(connections),
            returned: Condvar::new(),
        }
    }

    /// Lends a connection to `user`, when there is one.
    pub fn with<T>(&self, user: impl FnOnce(&mut Connection) -> T) -> T {
        let idle = self.idle.lock().unwrap();
        let mut idle = self
            .returned
            .wait_while(idle, |idle| idle.is_empty())
            .unwrap();
        let mut connection = idle.pop().expect("we have waited for it");
        drop(idle);
        let result = user(&mut connection);
        self.idle.lock().unwrap().push(connection);
        self.returned.notify_one();
        result
    }

    pub fn into_connections(self) -> Vec<Connection> {
        self.idle.into_inner().unwrap()
    }
}
