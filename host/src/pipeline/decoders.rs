//! The decoders of a configuration: found, compiled, and looked for again while podtap is running.

use std::collections::HashMap;
use std::sync::Arc;

use super::PipelineError;
use crate::config::Config;
use crate::decoder::{self, Catalog, Runtime, Watch};
use crate::publish::Printable;

/// Decoders as a configuration has them, for any number of replays: to compile them takes longer than most replays do.
pub struct Decoders {
    pub(super) runtime: Arc<Runtime>,
    pub(super) plugins: Vec<decoder::Plugin>,
    /// One line for each plugin that could not be used.
    pub(super) problems: Vec<String>,
    /// What the search path held, until someone watches it.
    catalog: Option<Catalog>,
    pub(super) watch: Option<Watch>,
}

impl Decoders {
    /// Finds and compiles them.
    ///
    /// # Errors
    /// When there is none, or the configuration names one that is not there.
    pub fn load(config: &Config) -> Result<Decoders, PipelineError> {
        let (decoders, mut missing) = Decoders::find_in_directories(config)?;
        if missing.is_empty() {
            return Ok(decoders);
        }
        decoders.tell_problems();
        Err(missing.swap_remove(0))
    }

    /// As [`Decoders::load`], and watches them. What is damaged or missing now may come later: it is told in the log, and keeps
    /// nobody from the others.
    ///
    /// # Errors
    /// As [`Decoders::load`], where nothing is watched; else when WebAssembly cannot be run here.
    pub fn load_and_watch(config: &Config) -> Result<Decoders, PipelineError> {
        let (mut decoders, mut missing) = Decoders::find_in_directories(config)?;
        decoders.tell_problems();
        decoders.watch(config);
        if decoders.watch.is_none() && !missing.is_empty() {
            return Err(missing.swap_remove(0));
        }
        for missing in missing {
            tracing::error!("{}; podtap goes on, and takes one that comes", Printable(&missing.to_string()));
        }
        Ok(decoders)
    }

    /// As [`Decoders::find`]; a directory that is not there is one more problem.
    fn find_in_directories(config: &Config) -> Result<(Decoders, Vec<PipelineError>), PipelineError> {
        let (mut decoders, missing) = Decoders::find(config)?;
        for directory in config.plugins.directories.iter().filter(|directory| !directory.is_dir()) {
            decoders.problems.push(format!("{}: is not a directory of plugins", directory.display()));
        }
        Ok((decoders, missing))
    }

    fn tell_problems(&self) {
        self.problems.iter().for_each(|problem| tracing::error!("{}", Printable(problem)));
    }

    /// Finds and compiles them; with them comes what keeps a configuration from being used with these.
    ///
    /// # Errors
    /// When WebAssembly cannot be run here.
    pub fn find(config: &Config) -> Result<(Decoders, Vec<PipelineError>), PipelineError> {
        let runtime = Arc::new(runtime(config)?);
        let path = decoder::search_path(&config.plugins.directories);
        let mut catalog = Catalog::new(path.clone(), config.plugins.clone());
        let mut problems: Vec<_> =
            catalog.look(&runtime).map(|(path, error)| format!("{}: {error}", path.display())).collect();
        problems.extend(catalog.pin_problems());
        let mut plugins = catalog.plugins();
        if plugins.len() > decoder::MAX_PLUGINS {
            problems.push(format!("{} decoders found; the first {} are used", plugins.len(), decoder::MAX_PLUGINS));
            plugins.truncate(decoder::MAX_PLUGINS);
        }
        let mut missing = Vec::new();
        // Connections are told of without one.
        if plugins.is_empty() && !config.events.connections {
            missing.push(PipelineError::NoDecoder(path));
        }
        missing
            .extend(config.plugins.config.keys().filter_map(|name| unknown(catalog.names(), "plugins.config", name)));
        let usable = plugins.iter().map(|plugin| plugin.descriptor.name.as_str());
        let given = config.detection.ports.iter();
        missing
            .extend(given.filter_map(|(port, name)| unknown(usable.clone(), &format!("detection.ports.{port}"), name)));
        let decoders = Decoders { runtime, plugins, problems, catalog: Some(catalog), watch: None };
        Ok((decoders, missing))
    }

    /// One line for each decoder that cannot be used, and each setting about decoders that does nothing.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// One alone, whatever else is found.
    pub fn only(runtime: Runtime, plugin: decoder::Plugin) -> Decoders {
        Decoders { runtime: Arc::new(runtime), plugins: vec![plugin], problems: Vec::new(), catalog: None, watch: None }
    }

    /// Looks for changed decoders from now on, as the configuration has it, and uses them in replays that are under way.
    pub fn watch(&mut self, config: &Config) {
        let interval = config.plugins.reload_interval.0;
        if let Some(catalog) = self.catalog.take_if(|_| !interval.is_zero()) {
            match Watch::start(Arc::clone(&self.runtime), catalog, interval) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => tracing::error!(%error, "changed decoders are not noticed"),
            }
        }
    }

    /// How often the search path was looked into for changes.
    pub fn looks(&self) -> u64 {
        self.watch.as_ref().map_or(0, Watch::looks)
    }
}

/// The sandbox, with the cache and the limits that a configuration has.
///
/// # Errors
/// When WebAssembly cannot be run here.
pub fn runtime(config: &Config) -> Result<Runtime, PipelineError> {
    let cache = if config.plugins.cache { decoder::Cache::of_this_user() } else { decoder::Cache::none() };
    let limits = decoder::Limits {
        memory_bytes: config.decoder.memory_bytes.as_usize(),
        workers: config.capture.workers,
        call_timeout: config.decoder.call_timeout.0,
    };
    Runtime::new(limits, cache).map_err(PipelineError::Sandbox)
}

/// For a decoder's name, the attribute that holds the status of its exchanges.
pub(super) fn status_attributes(plugins: &[decoder::Plugin]) -> HashMap<String, String> {
    let descriptors = plugins.iter().map(|plugin| &plugin.descriptor);
    let named = descriptors.filter_map(|it| Some((it.name.clone(), it.status_attribute()?.to_owned())));
    named.collect()
}

/// The error of a key of the configuration that names a decoder which is not there.
fn unknown<'p>(mut names: impl Iterator<Item = &'p str> + Clone, key: &str, name: &str) -> Option<PipelineError> {
    let known = names.clone();
    if names.any(|known| known == name) {
        return None;
    }
    let known = known.collect::<Vec<_>>().join(", ");
    Some(PipelineError::UnknownDecoder { key: key.to_owned(), name: name.to_owned(), known })
}

/// An instance of each plugin.
pub(super) fn start_plugins(
    runtime: &Runtime,
    plugins: &[decoder::Plugin],
    problems: &mut Vec<String>,
) -> Vec<(decoder::Plugin, decoder::Instance)> {
    let mut started = Vec::new();
    for plugin in plugins {
        match runtime.instance(plugin) {
            Ok(instance) => started.push((plugin.clone(), instance)),
            Err(error) => problems.push(format!("{}: {error}", plugin.path.display())),
        }
    }
    started
}
