//! `shmctl completions` and `shmctl man`: what a package installs beside the program.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;

/// Options of `completions`.
#[derive(clap::Args, Clone, Debug)]
pub struct Completions {
    /// The shell that completes
    #[arg(value_name = "SHELL")]
    shell: Shell,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `man`.
#[derive(clap::Args, Clone, Debug)]
pub struct Manual {
    /// Write the page of each command as a file of its own into this directory, instead of one
    /// page to the standard output
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,

    /// The command whose page it is, such as `store append`; by default that of the whole program
    #[arg(value_name = "COMMAND", conflicts_with = "directory")]
    command: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn completions(
    options: &Completions,
    mut program: Command,
) -> Result<ExitCode, Box<dyn Error>> {
    let mut script = Vec::new();
    let name = program.get_name().to_owned();
    clap_complete::generate(options.shell, &mut program, name, &mut script);
    if options.json {
        let shell = options.shell.to_possible_value().map(|value| value.get_name().to_owned());
        println!("{}", json!({"shell": shell, "script": String::from_utf8(script)?}));
    } else {
        io::stdout().write_all(&script)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn man(options: &Manual, program: Command) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(directory) = &options.directory {
        fs::create_dir_all(directory)?;
        let mut files = Vec::new();
        for (name, page) in pages(&program, program.get_name().to_owned())? {
            let path = directory.join(format!("{name}.1"));
            fs::write(&path, page)?;
            files.push(path);
        }
        if options.json {
            println!("{}", json!({"files": files}));
        } else {
            files.iter().for_each(|file| println!("{}", file.display()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (mut command, mut name) = (&program, program.get_name().to_owned());
    for part in &options.command {
        let found = command.find_subcommand(part);
        command = found.ok_or_else(|| format!("there is no command `{name} {part}`"))?;
        name = format!("{name}-{part}");
    }
    let page = page(command, &name)?;
    if options.json {
        println!("{}", json!({"name": name, "page": String::from_utf8(page)?}));
    } else {
        io::stdout().write_all(&page)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The pages of a command and of all beneath it, by name.
fn pages(command: &Command, name: String) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = vec![(name.clone(), page(command, &name)?)];
    for beneath in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        all.extend(pages(beneath, format!("{name}-{}", beneath.get_name()))?);
    }
    Ok(all)
}

fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // A page has the name that it is looked up by.
    let command = command.clone().display_name(name.to_owned()).version(env!("CARGO_PKG_VERSION"));
    Man::new(command).render(&mut page)?;
    Ok(page)
}
