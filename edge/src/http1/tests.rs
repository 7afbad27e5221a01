//! Rows of the framing matrix, and bytes that nobody should send.
