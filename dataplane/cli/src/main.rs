//! pectl: the operator's command line for the dataplane.

fn main() {}
