//! outfall
fn main() {}
