//! Complete programs over `shm-transport`, one file each, beside this one. Their tests run
//! them.

pub mod echo;
pub mod grpc;
