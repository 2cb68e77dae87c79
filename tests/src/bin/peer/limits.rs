pub(crate) fn run(_kind: &str, _path: &str) {}
