//! What std implements for each type that owns a descriptor, in one macro.

/// Converts a face from and into std's type and descriptors.
///
/// The face has `fn take_over(std) -> Self` and `fn release(self) -> std`, and its
/// first field is the [`Socket`](crate::fd::Socket).
macro_rules! descriptor_traits {
    ($face:ident, $std:ty) => {
        impl From<$std> for $face {
            /// Reads the socket's time limits and non-blocking mode.
            fn from(std: $std) -> $face {
                $face::take_over(std)
            }
        }

        impl From<$face> for $std {
            fn from(face: $face) -> $std {
                face.release()
            }
        }

        impl From<std::os::fd::OwnedFd> for $face {
            /// Reads the socket's time limits and non-blocking mode.
            fn from(fd: std::os::fd::OwnedFd) -> $face {
                <$std>::from(fd).into()
            }
        }

        impl From<$face> for std::os::fd::OwnedFd {
            fn from(face: $face) -> std::os::fd::OwnedFd {
                face.release().into()
            }
        }

        impl std::os::fd::AsFd for $face {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.std().as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $face {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.0.std().as_raw_fd()
            }
        }

        impl std::os::fd::IntoRawFd for $face {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                self.release().into_raw_fd()
            }
        }

        #[allow(unsafe_code)] // FromRawFd has an unsafe method.
        impl std::os::fd::FromRawFd for $face {
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $face {
                // SAFETY: the caller's promise is the callee's: `fd` is open
                // and owned.
                unsafe { <$std>::from_raw_fd(fd) }.into()
            }
        }
    };
}

pub(super) use descriptor_traits;
