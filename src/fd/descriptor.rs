//! What std implements for each type that owns a descriptor, in one macro.

/// The traits of a face, a tuple of one [`Socket`](super::Socket) or
/// [`File`](super::File) in the shape of std's type.
///
/// `$take` makes that of std's type, with a look at the modes it comes with;
/// `$give` gives std's type back. `from_raw` adds `FromRawFd`, and `stdio` that a
/// child process may have it as a standard stream.
macro_rules! descriptor_traits {
    ($face:ident, $std:ty, $take:expr, $give:expr $(, $more:ident)*) => {
        impl std::fmt::Debug for $face {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self.0.std(), f)
            }
        }

        impl From<$std> for $face {
            /// Takes over the modes that it has.
            fn from(std: $std) -> $face {
                $face($take(std))
            }
        }

        impl From<$face> for $std {
            fn from(face: $face) -> $std {
                $give(face.0)
            }
        }

        impl From<std::os::fd::OwnedFd> for $face {
            /// Takes over the modes that it has.
            fn from(fd: std::os::fd::OwnedFd) -> $face {
                <$std>::from(fd).into()
            }
        }

        impl From<$face> for std::os::fd::OwnedFd {
            fn from(face: $face) -> std::os::fd::OwnedFd {
                <$std>::from(face).into()
            }
        }

        impl std::os::fd::AsFd for $face {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(self.0.std())
            }
        }

        impl std::os::fd::AsRawFd for $face {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(self.0.std())
            }
        }

        impl std::os::fd::IntoRawFd for $face {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(<$std>::from(self))
            }
        }

        $( $crate::fd::descriptor_traits!(@$more $face, $std); )*
    };
    (@from_raw $face:ident, $std:ty) => {
        #[allow(unsafe_code)] // FromRawFd has an unsafe method.
        impl std::os::fd::FromRawFd for $face {
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $face {
                // SAFETY: the caller's promise is the callee's: `fd` is open
                // and owned.
                unsafe { <$std as std::os::fd::FromRawFd>::from_raw_fd(fd) }.into()
            }
        }
    };
    (@stdio $face:ident, $std:ty) => {
        impl From<$face> for std::process::Stdio {
            fn from(face: $face) -> std::process::Stdio {
                <$std>::from(face).into()
            }
        }
    };
}

pub(crate) use descriptor_traits;
