//! The broker's program: arguments in, a served broker out. All it does is in `server/http` and `server/setup`.

mod arguments;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use coffer_server_http::{Broker, BrokerConfig, EXAMPLE, shutdown_signal};
use coffer_server_setup::{self as setup, Finding, Progress, SetupError, State, Telemetry, TelemetrySection};
use serde::Serialize;

use arguments::{Arguments, Command, Output};

const FOUND_A_PROBLEM: u8 = 3;
const IN_USE: u8 = 4;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            match error.downcast_ref::<SetupError>() {
                Some(error) if error.is_in_use() => {
                    eprintln!(
                        "While that broker serves, an operator copies its store by `coffer cluster backup`."
                    );
                    ExitCode::from(IN_USE)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let command = arguments.command.as_ref().unwrap_or(&Command::Serve);
    if let Command::Example = command {
        std::io::stdout().write_all(EXAMPLE.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = match (configuration(arguments), command) {
        (Err(error), Command::Doctor) => return findings(arguments, &setup::unreadable(&error)),
        (config, _) => config?,
    };
    if let Command::Serve = command {
        return serve(arguments, config);
    }
    Telemetry::start(arguments.log_format, None)?;
    let mut progress = Progress::new("so far", |line| eprintln!("{line}"));
    let progress = &mut progress;
    match command {
        Command::Serve | Command::Example => Ok(ExitCode::SUCCESS),
        Command::Doctor => findings(arguments, &setup::doctor(&config)),
        Command::Healthcheck => {
            setup::health(&config)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Init => done(arguments, &setup::init(config, arguments.config.as_deref())?),
        Command::Backup { out } => done(arguments, &setup::backup(&config, out, progress)?),
        Command::Restore { file } => done(arguments, &setup::restore(&config, file, progress)?),
        Command::Migrate { from_embedded: false } => done(arguments, &setup::migrate(&config)?),
        Command::Migrate { from_embedded: true } => {
            done(arguments, &setup::move_to_postgres(&config, progress)?)
        }
        Command::RotateMasterKey { to } => {
            let rotated = setup::rotate_master_key(&config, to.as_deref())?;
            if rotated.change_configuration {
                eprintln!("Put the new [master_key] into the configuration before the next start.");
            }
            done(arguments, &rotated)
        }
        Command::Reseal { tenant } => done(arguments, &setup::reseal(&config, tenant.as_ref(), progress)?),
    }
}

/// The file and the environment; arguments go before both. `init` writes a file that is not there yet.
fn configuration(arguments: &Arguments) -> Result<BrokerConfig, SetupError> {
    let file = arguments.config.as_deref();
    let file = match arguments.command {
        Some(Command::Init) => file.filter(|path| path.exists()),
        _ => file,
    };
    let mut config = setup::read_settings(file, std::env::vars_os())?;
    if let Some(data) = &arguments.data {
        config.data_dir.clone_from(data);
    }
    config.listen = arguments.listen.unwrap_or(config.listen);
    Ok(config)
}

fn serve(arguments: &Arguments, config: BrokerConfig) -> Result<ExitCode> {
    let section = TelemetrySection::read(&config.telemetry)?;
    let telemetry = Telemetry::start(arguments.log_format, section.as_ref())?;
    let assembly = setup::assemble(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { assembly.keep_alive() });
    let broker = Broker::open_on(config, assembly.parts).map_err(SetupError::from)?;
    if let Some(made) = broker.first_start() {
        tracing::info!(
            admin_key = %made.admin_key.display(),
            ca_certificate = %made.ca_certificate.display(),
            master_key = assembly.master_key,
            "first start: keep the admin key with the admin and a copy of the master key apart from the store"
        );
    }
    runtime.block_on(async {
        // Before the line below, so that whoever reads it may stop the broker at once.
        let shutdown = shutdown_signal();
        let listener = broker.listen().await?;
        writeln!(std::io::stdout(), "listening on {}", broker.url(&listener))?;
        broker.serve(listener, shutdown).await?;
        tracing::info!("stopped");
        anyhow::Ok(())
    })?;
    telemetry.stop();
    Ok(ExitCode::SUCCESS)
}

fn findings(arguments: &Arguments, all: &[Finding]) -> Result<ExitCode> {
    let mut out = std::io::stdout();
    match arguments.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(all)?)?,
        Output::Text => all.iter().try_for_each(|finding| writeln!(out, "{finding}"))?,
    }
    match all.iter().any(|finding| finding.state == State::Problem) {
        true => Ok(ExitCode::from(FOUND_A_PROBLEM)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a result: as JSON, or its members one a line.
fn done(arguments: &Arguments, result: &impl Serialize) -> Result<ExitCode> {
    let value = serde_json::to_value(result)?;
    let text = match arguments.output {
        Output::Json => serde_json::to_string_pretty(&value)?,
        Output::Text => setup::to_text(&value),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
