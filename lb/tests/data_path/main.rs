//! The data path from outside: real sockets on 127.0.0.1, real shards, checked bytes.
//!
//! Room  in-process tests through the public API of `lb`. Every wait has a condition and a deadline. The
//!       modules are marked as tests so that their helpers may unwrap.

#[cfg(test)]
mod accepting;
#[cfg(test)]
mod backends;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod proxy_headers;
#[cfg(test)]
mod records;
#[cfg(test)]
mod timeouts;
#[cfg(test)]
mod traffic;
