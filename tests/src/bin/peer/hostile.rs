pub(crate) fn run(_path: &str, _kind: &str) {}
