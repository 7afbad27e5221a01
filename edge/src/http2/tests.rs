//! A client's connection against the rules of RFC 9113, frame by frame.

mod abuse;
mod client;
mod flow;
mod rules;
