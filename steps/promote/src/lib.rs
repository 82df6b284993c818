//! The promote step: an image and all that is attached to it, by digest.
