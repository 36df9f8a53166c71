//! Pages for readers who want more: recipes for users, and what contributors need to know.

#[doc = include_str!("cookbook.md")]
pub mod cookbook {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("decisions.md")]
pub mod decisions {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("changelog.md")]
pub mod changelog {}

/// The README, so that its examples are tested.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}
