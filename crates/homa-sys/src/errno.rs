//! The error numbers that drivers tell apart, for `io::Error::raw_os_error`.

pub use libc::{
    EACCES, EAGAIN, EBADF, ECONNREFUSED, EFAULT, EHOSTUNREACH, EINVAL, EIO, EMSGSIZE, ENETUNREACH,
    ENOBUFS, ENODEV, ENOMEM, ENOTSOCK, EPERM,
};
