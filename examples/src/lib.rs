//! Complete programs over `shm-transport`, one file each, beside this one. Their tests run
//! them.
