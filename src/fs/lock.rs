//! Locks on whole files, flock(2).

use std::fs::{self, TryLockError};
use std::io;

use super::file::File;
use crate::pauses::Pauses;

impl File {
    /// Locks the file for this handle alone, and waits until nobody else has it
    /// locked.
    ///
    /// The lock is advisory, and belongs to the open file: handles made by
    /// [`try_clone`](File::try_clone) share it. It ends with
    /// [`unlock`](File::unlock) or when all of them are closed. flock(2).
    ///
    /// # Difference from std
    ///
    /// Who waits looks again in pauses of 1 to 50 ms, because flock(2) would
    /// hold an OS thread for as long as it takes. So waiters are not served in
    /// their order, and those in std come first.
    ///
    /// # Errors
    ///
    /// Those of flock(2): the file system may not know locks.
    ///
    /// # Examples
    ///
    /// ```
    /// use greenring::fs::File;
    ///
    /// let path = std::env::temp_dir().join(format!("lock-{}", std::process::id()));
    /// let file = File::create(&path)?;
    /// file.lock()?;
    /// assert!(File::open(&path)?.try_lock().is_err());
    /// file.unlock()?;
    /// # greenring::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn lock(&self) -> io::Result<()> {
        self.lock_by(fs::File::try_lock)
    }

    /// Locks the file together with others that do the same, and waits until
    /// nobody has it locked for himself. Otherwise as [`lock`](File::lock).
    ///
    /// # Errors
    ///
    /// Those of flock(2).
    ///
    /// # Examples
    ///
    /// ```
    /// let one = greenring::fs::File::open("Cargo.toml")?;
    /// let other = greenring::fs::File::open("Cargo.toml")?;
    /// one.lock_shared()?;
    /// other.lock_shared()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn lock_shared(&self) -> io::Result<()> {
        self.lock_by(fs::File::try_lock_shared)
    }

    /// [`lock`](File::lock), if that need not wait.
    ///
    /// # Errors
    ///
    /// `TryLockError::WouldBlock` if it had to, and those of flock(2).
    ///
    /// # Examples
    ///
    /// See [`lock`](File::lock).
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.on_disk(|file| Ok(file.try_lock()))
            .unwrap_or_else(|error| Err(TryLockError::Error(error)))
    }

    /// [`lock_shared`](File::lock_shared), if that need not wait.
    ///
    /// # Errors
    ///
    /// `TryLockError::WouldBlock` if it had to, and those of flock(2).
    ///
    /// # Examples
    ///
    /// ```
    /// let file = greenring::fs::File::open("Cargo.toml")?;
    /// file.try_lock_shared()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.on_disk(|file| Ok(file.try_lock_shared()))
            .unwrap_or_else(|error| Err(TryLockError::Error(error)))
    }

    /// Ends all locks of this open file; without one it does nothing.
    ///
    /// # Errors
    ///
    /// Those of flock(2).
    ///
    /// # Examples
    ///
    /// See [`lock`](File::lock).
    pub fn unlock(&self) -> io::Result<()> {
        self.on_disk(fs::File::unlock)
    }

    fn lock_by(&self, try_lock: fn(&fs::File) -> Result<(), TryLockError>) -> io::Result<()> {
        let mut pauses = Pauses::short();
        loop {
            match self.on_disk(|file| Ok(try_lock(file)))? {
                Err(TryLockError::WouldBlock) => pauses.sleep(),
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
    }
}
