//! The `coffer` command: seal, sign, predict, run, explain.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done; 1 failed; 2 wrong usage;
//! `coffer run` ends with the workload's own code, 120 when guest or broker refused, 125 when the sandbox failed;
//! `coffer explain FILE` ends with 120 when evidence is refused, 121 when it could not be judged.

mod admin;
mod broker;
mod cache;
mod cluster;
mod collateral;
mod data;
mod doctor;
mod document;
mod explain;
mod guest;
mod home;
mod image;
mod init_data;
mod judge;
mod key_file;
mod measure;
mod model;
mod operator;
mod output;
mod policy;
mod recorded;
mod reference;
mod revoke;
mod run;
mod secret;
mod source;
mod tenant;
mod terminal;
mod trust;
mod volume;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::home::{BrokerArgs, Home};
use crate::output::{Format, Output};

const AFTER_HELP: &str = "\
Begin with `coffer doctor`, then `coffer guest build` and `coffer broker`.

Exit codes: 0 done, 1 failed, 2 wrong usage. `coffer run` ends with the workload's own code, with 120 when the guest
or the broker refused, and with 125 when the sandbox failed. `coffer explain FILE` ends with 120 when the evidence is
refused, and with 121 when it could not be judged.";

/// Run container images in attested sandboxes that get their keys only after proving what they are.
#[derive(Parser)]
#[command(name = "coffer", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// How results are written.
    #[arg(long, global = true, value_enum, default_value_t, env = "COFFER_OUTPUT")]
    output: Format,
    /// The folder of your guests, local broker and settings [default: ~/.local/share/coffer].
    #[arg(long, global = true, env = "COFFER_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Seal, sign, verify and inspect images.
    #[command(subcommand)]
    Image(image::Command),
    /// Seal, verify and open folders of models and data sets.
    #[command(subcommand)]
    Model(model::Command),
    /// Read and write objects of a store that sees only ciphertext.
    #[command(subcommand)]
    Data(data::Command),
    /// Make and inspect encrypted volumes.
    #[command(subcommand, after_help = volume::HELP)]
    Volume(volume::Command),
    /// Put, make, list, revoke and remove secrets in the broker.
    #[command(subcommand)]
    Secret(secret::Command),
    /// Build the guest's kernel and initial ramdisk.
    #[command(subcommand)]
    Guest(guest::Command),
    /// Write the init-data for an image: broker, signers, arguments, environment.
    InitData(init_data::Options),
    /// Predict what a guest will measure, before it boots.
    Measure(measure::Options),
    /// Add, list and remove reference values in the broker.
    #[command(subcommand)]
    Ref(reference::Command),
    /// Set and show the broker's resource policy.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Add and list the roots of attestation keys that the broker trusts.
    #[command(subcommand)]
    Trust(trust::Command),
    /// Release nothing any more to a chip, a measurement, an init-data or one attested guest.
    #[command(subcommand, after_help = revoke::HELP)]
    Revoke(revoke::Command),
    /// Say who may administer a tenant: keys, roles, OpenID issuers; and rotate its keys.
    #[command(subcommand, after_help = admin::HELP)]
    Admin(admin::Command),
    /// Make, change and remove tenants (operators).
    #[command(subcommand, after_help = tenant::HELP)]
    Tenant(tenant::Command),
    /// Say who may operate the cluster (operators).
    #[command(subcommand, after_help = operator::HELP)]
    Operator(operator::Command),
    /// Show the state of the broker's replicas and take a backup (operators).
    #[command(subcommand, after_help = cluster::HELP)]
    Cluster(cluster::Command),
    /// Fetch, import and list collateral: TCB info, revocation lists, endorsements.
    Collateral(collateral::Options),
    /// List, fill, verify and prune this host's cache of images' blobs.
    Cache(cache::Options),
    /// Run an image in a sandbox.
    Run(run::Options),
    /// Say why an attestation was accepted or refused: every check, expected and found.
    Explain(explain::Options),
    /// Run a broker here. Makes its keys at first start.
    Broker(broker::Options),
    /// Say what this machine can and cannot do, and how to mend it.
    Doctor(doctor::Options),
    /// Write a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What every command gets.
struct Context {
    home: Home,
    broker: BrokerArgs,
    output: Output,
}

impl Context {
    /// The broker as its admin sees it.
    fn admin(&self) -> Result<coffer_tools_client::AdminClient> {
        self.home.broker_access(&self.broker)?.admin()
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The only provider that is linked; a second call in one process is harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match dispatch(cli) {
        Ok(code) => code,
        // Whoever reads has enough, as in `coffer explain FILE | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coffer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let context = Context {
        home: Home::find(cli.home.as_deref())?,
        broker: cli.broker,
        output: Output::new(cli.output),
    };
    match cli.command {
        Command::Image(command) => image::run(&context, command)?,
        Command::Model(command) => model::run(&context, command)?,
        Command::Data(command) => data::run(&context, command)?,
        Command::Volume(command) => volume::run(&context, command)?,
        Command::Secret(command) => secret::run(&context, command)?,
        Command::Guest(command) => guest::run(&context, command)?,
        Command::InitData(options) => init_data::run(&context, &options)?,
        Command::Measure(options) => measure::run(&context, &options)?,
        Command::Ref(command) => reference::run(&context, command)?,
        Command::Policy(command) => policy::run(&context, command)?,
        Command::Trust(command) => trust::run(&context, command)?,
        Command::Revoke(command) => revoke::run(&context, command)?,
        Command::Admin(command) => admin::run(&context, command)?,
        Command::Tenant(command) => tenant::run(&context, command)?,
        Command::Operator(command) => operator::run(&context, command)?,
        Command::Cluster(command) => cluster::run(&context, command)?,
        Command::Collateral(options) => collateral::run(&context, options)?,
        Command::Cache(options) => cache::run(&context, options)?,
        Command::Run(options) => return run::run(&context, options),
        Command::Explain(options) => return explain::run(&context, &options),
        Command::Broker(options) => broker::run(&context, &options)?,
        Command::Doctor(options) => return doctor::run(&context, &options),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "coffer", &mut script);
            output::plain(&String::from_utf8(script)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A runtime for commands that talk to a broker, a registry or a guest.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
