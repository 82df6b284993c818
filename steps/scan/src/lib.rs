//! The scan step: a bill of materials against an OSV database.
