//! Which events are wanted: expressions in CEL, the Common Expression Language, over the fields of an event's JSON form.
//!
//! In comes text, once, and fields, event by event; out goes whether they match. Names are those of the event, so an
//! expression is written after what is seen in it; `event` is all of it. What an event does not have matches nothing,
//! and `has(event.loss)` asks for it. Every name, function and duration is checked before the first event comes; of types
//! nothing is known before, so what cannot be compared is an error of that event.
//!
//! The language is that of <https://github.com/google/cel-spec>, evaluated by the crate `cel`, without its types for time:
//! durations are integers in ns here as in events, and `duration("100ms")` is one; times are text, which sorts as they do.
//! docs/filter.md is the page for users.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue};
use cel::{Context, Env, ExecutionError, ParseErrors, Program};
use serde_json::{Map, Value};

use crate::config::HumanDuration;
use crate::publish::Printable;
use crate::reference;

/// The whole event.
const ALL: &str = "event";
/// Maps whose names hold dots.
const DOTTED: [&str; 2] = ["attributes", "resource"];
/// Names of types, for `type(x) == string`.
const TYPES: [&str; 8] = ["bool", "double", "int", "list", "map", "null_type", "string", "uint"];
/// Functions, beside the operators and the macros `has`, `all`, `exists`, `exists_one`, `map` and `filter`.
const FUNCTIONS: [&str; 12] = [
    "bool",
    "contains",
    "double",
    "duration",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];
/// The longest expression, bytes, and how deep its brackets may be nested: the parser calls itself for each.
pub(crate) const MAX_BYTES: usize = 4096;
pub(crate) const MAX_NESTING: usize = 32;
/// How many loops (`exists`, `map` and the like) an expression may have, and how many in one another or over each other's
/// result: each of these multiplies time and memory.
pub(crate) const MAX_LOOPS: usize = 8;
pub(crate) const MAX_LOOPS_NESTED: usize = 2;
/// What is shown of an expression behind the place of an error.
const EXCERPT_LETTERS: usize = 20;

/// A filter that was understood.
pub struct Filter {
    program: Program,
    context: Context<'static, 'static>,
    /// Fields that it looks at.
    used: Vec<String>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Filter").field("used", &self.used).finish_non_exhaustive()
    }
}

/// What is wrong with a filter, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}, {}: {what}", self.place())]
pub struct FilterError {
    /// In characters, from 1.
    pub column: usize,
    /// What stands there, not all of it; empty at the end.
    pub excerpt: String,
    /// What is wrong.
    pub what: String,
}

impl FilterError {
    fn place(&self) -> String {
        if self.excerpt.is_empty() { "at the end".to_owned() } else { format!("at {:?}", self.excerpt) }
    }

    /// Of a byte of the source.
    fn at(source: &str, byte: usize, what: impl Into<String>) -> FilterError {
        let byte = (0..=byte.min(source.len())).rev().find(|&byte| source.is_char_boundary(byte)).unwrap_or_default();
        let (before, rest) = source.split_at(byte);
        let excerpt = rest.chars().take(EXCERPT_LETTERS).collect();
        FilterError { column: before.chars().count() + 1, excerpt, what: what.into() }
    }
}

impl Filter {
    /// Understands an expression.
    pub fn parse(source: &str) -> Result<Filter, FilterError> {
        check_size(source)?;
        let env = Arc::new(Env::stdlib());
        let program = env.compile(source).map_err(|errors| syntax_error(source, &errors))?;
        let known = names();
        let mut check = Check {
            source,
            program: &program,
            known: &known,
            bound: Vec::new(),
            used: BTreeSet::new(),
            loops: 0,
            loops_around: 0,
        };
        check.expression(program.expression())?;
        let used = check.used.into_iter().map(str::to_owned).collect();
        let mut context = Context::with_env(env);
        let added = context.add_function("duration", |text: Arc<String>| match HumanDuration::parse(&text) {
            Ok(duration) => Ok(i64::try_from(duration.as_ns()).unwrap_or(i64::MAX)),
            Err(what) => Err(ExecutionError::function_error("duration", what)),
        });
        // It is no function of the language's own while the crate's types for time are left out.
        added.map_err(|error| FilterError::at(source, 0, error.to_string()))?;
        Ok(Filter { program, context, used })
    }

    /// Do these fields of an event in its JSON form match? An error says what cannot be compared.
    pub fn matches(&self, fields: &Map<String, Value>) -> Result<bool, String> {
        let mut scope = self.context.new_inner_scope();
        for name in &self.used {
            if name == ALL {
                scope.add_variable_from_value(ALL, map(fields));
            } else if let Some(field) = fields.get(name) {
                scope.add_variable_from_value(name.as_str(), value(field));
            }
        }
        match self.program.execute(&scope) {
            Ok(cel::Value::Bool(matches)) => Ok(matches),
            Ok(other) => Err(format!("the filter is no condition: it gives a value of type {}", other.type_of())),
            // The event does not have it.
            Err(ExecutionError::NoSuchKey(_) | ExecutionError::UndeclaredReference(_)) => Ok(false),
            Err(error) => Err(what(&error)),
        }
    }
}

/// What cannot be computed, by the types of it: the values are of the event, which may be long, and is nothing for a log.
fn what(error: &ExecutionError) -> String {
    match error {
        ExecutionError::UnsupportedTargetType { target } => {
            format!("a function that does not take {}", target.type_of())
        }
        ExecutionError::NotSupportedAsMethod { method, target } => format!("{method}() of {}", target.type_of()),
        ExecutionError::UnsupportedKeyType(key) => format!("a key of type {}", key.type_of()),
        ExecutionError::ValuesNotComparable(one, other) => {
            format!("{} and {} cannot be compared", one.type_of(), other.type_of())
        }
        ExecutionError::UnsupportedBinaryOperator(operator, one, other) => {
            format!("the operator {operator} does not take {} and {}", one.type_of(), other.type_of())
        }
        ExecutionError::UnsupportedIndex(index, value) => {
            format!("{} as an index of {}", index.type_of(), value.type_of())
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero".to_owned(),
        ExecutionError::Overflow(operator, ..) => format!("the operator {operator} gives a number that is too large"),
        ExecutionError::IndexOutOfBounds(_) => "an index behind the end of a list".to_owned(),
        ExecutionError::DuplicateKey(_) => "a key twice in one map".to_owned(),
        // What it got may be shown in full.
        ExecutionError::UnexpectedType { want, .. } => format!("a value that is not of type {want}"),
        // Those that hold no value.
        ExecutionError::InvalidArgumentCount { .. }
        | ExecutionError::NoSuchOverload(_)
        | ExecutionError::MissingArgumentOrTarget
        | ExecutionError::FunctionError { .. } => error.to_string(),
        _ => "it cannot be computed".to_owned(),
    }
}

fn map(fields: &Map<String, Value>) -> cel::Value {
    fields.iter().map(|(name, field)| (name.as_str(), value(field))).collect::<HashMap<_, _>>().into()
}

fn value(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Value::Object(fields) => map(fields),
    }
}

/// Refuses what the parser might take too long, or too much of the stack, for. Brackets in texts count as well.
fn check_size(source: &str) -> Result<(), FilterError> {
    if source.len() > MAX_BYTES {
        return Err(FilterError::at(source, MAX_BYTES, format!("longer than {MAX_BYTES} bytes")));
    }
    let mut depth = 0_usize;
    for (byte, letter) in source.bytes().enumerate() {
        match letter {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(FilterError::at(source, byte, format!("brackets nested deeper than {MAX_NESTING}")));
        }
    }
    Ok(())
}

/// Fields of every kind of event, and the name for all of them.
fn names() -> BTreeSet<String> {
    let schemas = [reference::exchange_schema(), reference::connection_schema()];
    let properties = schemas.iter().filter_map(|schema| schema["properties"].as_object());
    properties.flat_map(Map::keys).cloned().chain([ALL.to_owned()]).collect()
}

/// The first error of the parser, on one line.
fn syntax_error(source: &str, errors: &ParseErrors) -> FilterError {
    let Some(error) = errors.errors.first() else { return FilterError::at(source, 0, "not understood") };
    let line = usize::try_from(error.pos.0).unwrap_or(1).max(1) - 1;
    let before: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let letters = usize::try_from(error.pos.1).unwrap_or(1).max(1) - 1;
    let rest = source.get(before..).unwrap_or_default();
    let byte = before + rest.char_indices().nth(letters).map_or(rest.len(), |(byte, _)| byte);
    // The parser quotes what it does not understand.
    FilterError::at(source, byte, Printable(error.msg.trim_start_matches("Syntax error: ")).to_string())
}

/// A walk over an expression that looks for what no event can have.
struct Check<'p> {
    source: &'p str,
    program: &'p Program,
    known: &'p BTreeSet<String>,
    /// Variables of macros around.
    bound: Vec<&'p str>,
    used: BTreeSet<&'p str>,
    /// Loops so far, and those that the place at hand is within.
    loops: usize,
    loops_around: usize,
}

impl<'p> Check<'p> {
    fn expression(&mut self, ided: &'p IdedExpr) -> Result<(), FilterError> {
        match &ided.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(ided, name),
            Expr::Select(select) => {
                if let Expr::Select(inner) = &select.operand.expr
                    && let Expr::Ident(map) = &inner.operand.expr
                    && DOTTED.contains(&map.as_str())
                {
                    let what =
                        format!("names with dots stand in brackets: {map}[\"{}.{}...\"]", inner.field, select.field);
                    return Err(self.error(&inner.operand, what));
                }
                self.expression(&select.operand)
            }
            Expr::Call(call) => {
                self.function(ided, &call.func_name)?;
                if let ("duration", [argument]) = (call.func_name.as_str(), call.args.as_slice())
                    && let Expr::Literal(LiteralValue::String(text)) = &argument.expr
                {
                    HumanDuration::parse(text.inner()).map_err(|what| self.error(argument, what))?;
                }
                call.target.iter().try_for_each(|target| self.expression(target))?;
                call.args.iter().try_for_each(|argument| self.expression(argument))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expression(element)),
            Expr::Map(map) => self.entries(&map.entries),
            Expr::Struct(structure) => self.entries(&structure.entries),
            Expr::Comprehension(comprehension) => {
                self.loops += 1;
                self.loops_around += 1;
                if self.loops > MAX_LOOPS || self.loops_around > MAX_LOOPS_NESTED {
                    let what = format!(
                        "more than {MAX_LOOPS} loops (exists, map and the like), or more than {MAX_LOOPS_NESTED} in one \
                         another"
                    );
                    return Err(self.error(ided, what));
                }
                self.expression(&comprehension.iter_range)?;
                self.expression(&comprehension.accu_init)?;
                let outside = self.bound.len();
                self.bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                self.bound.extend(comprehension.iter_var2.as_deref());
                let inside = [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result];
                inside.into_iter().try_for_each(|part| self.expression(part))?;
                self.bound.truncate(outside);
                self.loops_around -= 1;
                Ok(())
            }
        }
    }

    fn entries(&mut self, entries: &'p [IdedEntryExpr]) -> Result<(), FilterError> {
        entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
        })
    }

    fn name(&mut self, ided: &IdedExpr, name: &'p str) -> Result<(), FilterError> {
        if self.bound.contains(&name) || TYPES.contains(&name) && !self.known.contains(name) {
            return Ok(());
        }
        if self.known.contains(name) {
            self.used.insert(name);
            return Ok(());
        }
        let known = self.known.iter().map(String::as_str);
        Err(self.error(ided, unknown("no event has a field", name, known)))
    }

    fn function(&self, ided: &IdedExpr, name: &str) -> Result<(), FilterError> {
        let is_operator = !name.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if is_operator || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        Err(self.error(ided, unknown("there is no function", name, FUNCTIONS.into_iter())))
    }

    fn error(&self, ided: &IdedExpr, what: impl Into<String>) -> FilterError {
        let start = self.program.source_info().offset_for(ided.id).map_or(0, |(start, _)| start as usize);
        FilterError::at(self.source, start, what)
    }
}

/// For a name that is not there: the nearest that is.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    /// Below, names look alike by chance only.
    const ALIKE: f64 = 0.8;
    let nearest =
        known.map(|known| (strsim::jaro_winkler(name, known), known)).max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((alike, nearest)) if alike >= ALIKE => format!("{what} {name}; did you mean {nearest}?"),
        _ => format!("{what} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Encoder, Event, Format};
    use crate::reference::{example_connection_event, example_event};

    fn fields(event: Event<'_>) -> Map<String, Value> {
        serde_json::from_slice(Encoder::new(Format::Json).encode(event).unwrap()).unwrap()
    }

    fn check(source: &str, expected: Result<bool, &str>) {
        let filter = Filter::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        let found = filter.matches(&fields(Event::Exchange(&example_event())));
        assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|what| *what), "{source}");
    }

    #[track_caller]
    fn check_error(source: &str, expected: &str) {
        assert_eq!(Filter::parse(source).unwrap_err().to_string(), expected, "{source}");
    }

    #[test]
    fn loops_are_few_so_that_no_event_takes_long() {
        let nested = "[1].exists(x, [x].exists(y, y == 1))";
        check(nested, Ok(true));
        check("[[0]].map(x, x + x).exists(x, size(x) == 2)", Ok(true));
        let too_many = "more than 8 loops (exists, map and the like), or more than 2 in one another";
        let refused = |source: &str| {
            let error = Filter::parse(source).unwrap_err();
            assert_eq!(error.what, too_many, "{source}");
        };
        refused("[[0]].map(x, x + x).map(x, x + x).exists(x, size(x) == 4)");
        refused("[1].exists(x, [1].exists(y, [1].exists(z, z == 1)))");
        check(&["attributes.exists(name, name == 'url.path')"; 8].join(" && "), Ok(true));
        refused(&["attributes.exists(name, name == 'url.path')"; 9].join(" && "));
    }

    #[test]
    fn fields_are_written_as_they_are_seen() {
        for matching in [
            "true",
            "protocol == \"http\" && attributes[\"http.response.status_code\"] < 500 && duration > duration(\"1ms\")",
            "duration == 1240000 && duration <= duration('1.24ms')",
            "timing.response_start > timing.request_end",
            "time >= '2026-01-01' && time < '2026-01-02'",
            "operation in ['GET', 'HEAD']",
            "target.startsWith('/api/') && target.endsWith('42') && summary.contains('users')",
            "target.matches('^/api/[a-z]+/[0-9]+$')",
            "size(attributes) == 5 && size(target) == 13",
            "client.port > 1024 && server.port == 80 && !connection.midstream",
            "string(server.port) == '80' && int('80') == server.port && double(80) == 80.0 && uint(80) == 80u",
            "resource['service.name'] == 'shop' || outcome != 'ok'",
            "!has(event.loss) && has(event.attributes) && !has(event.kind)",
            "attributes.exists(name, name.startsWith('http.')) && attributes.all(name, name.contains('.'))",
            "type(duration) == int && bool('true')",
            "(duration > 5 ? 'slow' : 'fast') == 'slow'",
        ] {
            check(matching, Ok(true));
        }
        for not in ["false", "protocol == \"mysql\"", "duration > duration(\"2ms\")"] {
            check(not, Ok(false));
        }
    }

    #[test]
    fn what_an_event_does_not_have_matches_nothing() {
        for absent in [
            "loss.gap_bytes > 0",
            "attributes['db.system.name'] == 'mysql'",
            "attributes['db.system.name'] != 'mysql'",
            "kind == 'connection'",
            "!(loss.truncated)",
            "opened == 'refused' && true",
        ] {
            check(absent, Ok(false));
        }
        check("loss.gap_bytes > 0 || protocol == 'http'", Ok(true));
        let connection = fields(Event::Connection(&example_connection_event()));
        for matching in ["kind == 'connection' && opened == 'handshake'", "closed.reason == 'fin'", "exchanges == 4"] {
            assert_eq!(Filter::parse(matching).unwrap().matches(&connection), Ok(true), "{matching}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        check_error(
            "protocl == 'http'",
            "column 1, at \"protocl == 'http'\": no event has a field protocl; did you mean protocol?",
        );
        check_error("true && nonsense", "column 9, at \"nonsense\": no event has a field nonsense");
        check_error(
            "attributes.http.route == '/'",
            "column 1, at \"attributes.http.rout\": names with dots stand in brackets: attributes[\"http.route...\"]",
        );
        check_error(
            "duration > duration('soon')",
            "column 21, at \"'soon')\": \"soon\" is not a duration such as 100ms, 2s or 1m 30s",
        );
        check_error("'日本' == target && x", "column 19, at \"x\": no event has a field x");
    }

    #[test]
    fn syntax_errors_are_one_line_with_their_place() {
        for (source, column) in [
            ("", 1),
            ("protocol == ", 13),
            ("protocol = 'http'", 10),
            ("(true", 6),
            ("true\n&& )", 9),
            ("&\n", 1),
            ("&\u{1b}[2J", 1),
        ] {
            let error = Filter::parse(source).unwrap_err();
            assert_eq!(error.column, column, "{source:?}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn an_unknown_function_is_named_at_its_place() {
        let error = Filter::parse("target.startWith('/')").unwrap_err();
        assert!(error.what.contains("no function startWith; did you mean startsWith?"), "{error}");
        assert!(Filter::parse("target.lower() == '/'").unwrap_err().what.contains("no function lower"));
    }

    #[test]
    fn what_cannot_be_compared_is_an_error_of_the_event() {
        for (source, expected) in [
            ("target > 5", "no matching overload for '_>_' applied to '(string, int)'"),
            ("duration", "the filter is no condition: it gives a value of type int"),
            ("target.matches('(')", "regex"),
            // Not with the values, which may be all of the event.
            ("3 % event == 1", "the operator rem does not take int and map"),
            ("duration(event) > 1", "a value that is not of type "),
            ("1 / 0 == 1", "a division by zero"),
            ("9223372036854775807 + server.port > 0", "the operator add gives a number that is too large"),
        ] {
            let error = Filter::parse(source).unwrap().matches(&fields(Event::Exchange(&example_event()))).unwrap_err();
            assert!(error.contains(expected) && !error.contains("url.path"), "{source}: {error}");
        }
    }

    #[test]
    fn no_text_is_too_much_for_the_parser() {
        for piece in [
            "(", "[", "{", "!", "-", "- ", "a.", "a[", "a+", "a&&", "a||!", "true?", "true?1:", "a==", "f(", "\"",
            "\u{0}",
        ] {
            for count in [1, 33, MAX_BYTES / piece.len(), MAX_BYTES] {
                assert!(Filter::parse(&piece.repeat(count)).is_err(), "{piece} {count}");
            }
        }
        assert!(Filter::parse(&format!("{}true{}", "(".repeat(MAX_NESTING), ")".repeat(MAX_NESTING))).is_ok());
        check_error(&"(".repeat(33), "column 33, at \"(\": brackets nested deeper than 32");
    }
}
