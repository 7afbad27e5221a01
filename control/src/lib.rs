//! Placeholder door plate, replaced as the room is furnished.
