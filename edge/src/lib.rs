//! The data path of the edge proxy: a request in, an upstream out.

pub mod field;
pub mod http1;
pub mod policy;
pub mod settings;
pub mod target;
pub mod tls;
