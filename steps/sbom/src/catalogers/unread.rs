//! Files that are known to hold packages and that no cataloger reads: told, so that nobody takes
//! the bill for complete.

use super::Place;
use crate::unassessed::UnassessedKind as U;

/// What the file is of all that is not read.
pub(super) fn kind(place: &Place<'_>) -> Option<U> {
    match place.name {
        "status" => {
            let homes = ["usr/lib/opkg", "var/lib/opkg"];
            homes.into_iter().any(|home| place.folder_is(home)).then_some(U::Opkg)
        }
        "ALPM_DB_VERSION" => place.folder_is("var/lib/pacman/local").then_some(U::Pacman),
        // What stands in the log of a database is not in the database yet.
        "rpmdb.sqlite-wal" => super::rpm::is_home(place).then_some(U::Rpm),
        ".pnp.cjs" | ".pnp.js" => Some(U::YarnPnp),
        _ => None,
    }
}
