//! The commands about evidence: keys, and what hangs at an image.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use fairlead_evidence::PredicateType;
use fairlead_step::ImageRef;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key
    Generate {
        /// Of which kind
        #[arg(long, value_enum, default_value_t = KeyAlgorithm::EcdsaP256)]
        algorithm: KeyAlgorithm,
        #[command(flatten)]
        out: KeyOutArgs,
    },
    /// Take over a key that another program made: PKCS#8 plain or encrypted, SEC1, PKCS#1, cosign's
    Import {
        /// Its file, in PEM
        file: PathBuf,
        /// The name of the secret that opens it
        #[arg(long, value_name = "NAME")]
        its_password: Option<String>,
        #[command(flatten)]
        out: KeyOutArgs,
    },
    /// Print the public half of a key
    Public {
        /// Its file, in PEM
        file: PathBuf,
        /// The name of the secret that opens it
        #[arg(long, value_name = "NAME")]
        password: Option<String>,
    },
}

/// A kind of key that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyAlgorithm {
    /// ECDSA on P-256, what cosign makes
    EcdsaP256,
    /// ECDSA on P-384
    EcdsaP384,
    /// Ed25519
    Ed25519,
}

#[derive(Debug, Args)]
pub(crate) struct KeyOutArgs {
    /// Where to keep it: OUT.key and OUT.pub; what is there is not overwritten
    #[arg(long, value_name = "OUT", default_value = "cosign")]
    pub(crate) out: PathBuf,
    /// The name of the secret that encrypts it
    #[arg(long, value_name = "NAME")]
    pub(crate) password: Option<String>,
    /// Keep it as it is
    #[arg(long, conflicts_with = "password")]
    pub(crate) plain: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("against").required(true).args(["policy", "key"])))]
pub(crate) struct VerifyArgs {
    /// The image, by tag or digest
    pub(crate) image: ImageRef,
    /// A policy file
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// A file with the public key that must have signed it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// A type of attestation that must be there by the key; may be given more than once
    #[arg(long = "attestation", value_name = "TYPE", requires = "key")]
    pub(crate) attestations: Vec<PredicateType>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check policy files, and run the tests that stand in them
    Test {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The image, by tag or digest
    pub(crate) image: ImageRef,
    /// A file with a public key that is believed; may be given more than once
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}
