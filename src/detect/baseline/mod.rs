//! What is normal here: destinations, processes and volumes, as far as uploads that were no alert have taught it.

mod row;

pub use row::{Change, Kind, Row, RowKey};
