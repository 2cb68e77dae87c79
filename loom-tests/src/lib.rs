//! Model-checked tests of shm-primitives.
