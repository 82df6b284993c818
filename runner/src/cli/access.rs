//! The arguments of `fairlead login`, `fairlead token` and `fairlead audit`.

use clap::{Args, Subcommand};
use fairlead_run::Grant;
use fairlead_step::HumanDuration;

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Type a code in a browser on another machine, where this one has none
    #[arg(long, conflicts_with = "with_token")]
    pub(crate) device: bool,
    /// Only print the address, and open no browser
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// The issuer to log in at, where the server knows several
    #[arg(long, value_name = "NAME", conflicts_with = "with_token")]
    pub(crate) issuer: Option<String>,
    /// Read a token from standard input and keep it, instead of logging in at an issuer
    #[arg(long)]
    pub(crate) with_token: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for the API of a server that uses this store, and print it: the only time it is seen
    Create(TokenCreateArgs),
    /// List tokens, newest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token, for good and at once
    Revoke {
        /// The id of the token, as the list has it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// Who shows it: the name that stands in runs and votes
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) subject: String,
    /// What it allows: viewer, operator, approver or admin; in every project, or in one with ROLE:PROJECT.
    /// May be given more than once
    #[arg(long = "role", required = true, value_name = "ROLE[:PROJECT]")]
    pub(crate) roles: Vec<Grant>,
    /// Only for pipelines whose name fits. May be given more than once
    #[arg(long = "pipeline", value_name = "PATTERN")]
    pub(crate) pipelines: Vec<String>,
    /// Its subject may vote in the names of others, which is written down as such
    #[arg(long)]
    pub(crate) for_others: bool,
    /// For how long it is good
    #[arg(long, value_name = "TIME", default_value = "90d", conflicts_with = "never_expires")]
    pub(crate) expires: HumanDuration,
    /// It is good until somebody revokes it
    #[arg(long)]
    pub(crate) never_expires: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what callers have changed, newest last
    List {
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that no entry was changed, taken out or put in between
    Verify {
        /// A place and a hash that an earlier check or export has shown: the log must still lead through it
        #[arg(long, value_name = "SEQ:HASH")]
        through: Option<String>,
    },
    /// Print every entry as it is stored, a line each
    Export {
        /// Only those behind this place
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
    },
}
