//! A matrix for people.

pub(super) mod history;
pub(super) mod html;
pub(super) mod markdown;
pub(super) mod table;
pub(super) mod terminal;
