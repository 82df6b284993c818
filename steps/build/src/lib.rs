//! The build step: an image from a Dockerfile, by Docker Engine with BuildKit.
