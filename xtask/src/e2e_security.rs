//! `cargo xtask e2e security`: does podtap publish to a real Apache Kafka that wants TLS, a client's certificate and SASL,
//! and does it say what is wrong without showing a secret?
//!
//! Listeners of its own are made with certificates from the openssl program: one with users for PLAIN and SCRAM, one that
//! takes tokens (OAUTHBEARER), which it does not check but for their expiry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use crate::e2e_outages_traffic::{Loops, Podtap};
use crate::{kafka, process, release, workspace};

/// Programs that the check needs, beside those of the broker.
pub(crate) const PROGRAMS: [&str; 1] = ["openssl"];

/// Of the user `podtap`.
const PASSWORD: &str = "correct-horse-battery";

/// With what.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// An executable with its plugins beside it, to check instead of building the release
    #[arg(long)]
    podtap: Option<PathBuf>,
}

/// Publishes with every kind of proof, and with wrong ones.
pub(crate) fn run(args: &Args) -> Result<()> {
    let podtap = args.podtap.clone().map_or_else(release::build, Ok)?;
    let folder = workspace::target().join("e2e/security");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for authority in ["ca", "other"] {
        make_authority(&folder, authority)?;
    }
    for name in ["server", "client"] {
        make_certificate(&folder, name)?;
    }
    let store = fs::read_to_string(folder.join("server.key"))? + &fs::read_to_string(folder.join("server.pem"))?;
    fs::write(folder.join("server.store.pem"), store)?;
    fs::write(folder.join("password"), format!("{PASSWORD}\n"))?;

    let port = process::free_port()?;
    let token_port = process::free_port()?;
    let _broker = kafka::Borrowed::own(&kafka::Extra {
        listener: format!(",SECURE://127.0.0.1:{port},TOKEN://127.0.0.1:{token_port}"),
        properties: properties(&folder),
        format: ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .into_iter()
            .flat_map(|scram| ["--add-scram".to_owned(), format!("{scram}=[name=podtap,password={PASSWORD}]")])
            .collect(),
    })?;
    let file = |name: &str| folder.join(name).display().to_string();
    let replay = |settings: &[(&str, String)]| {
        let mut command = release::command(&podtap);
        command.arg("replay").arg(workspace::http_captures().join("servers-tour.pcap"));
        command.args(["--kafka-brokers", &format!("127.0.0.1:{port}"), "--kafka-topic", "security", "--no-summary"]);
        command.env("PODTAP_KAFKA_TLS", "true").env("PODTAP_KAFKA_CONNECT_TIMEOUT", "4s");
        command.env("PODTAP_KAFKA_TLS_CA_FILE", file("ca.pem"));
        command.env("PODTAP_KAFKA_TLS_CERTIFICATE_FILE", file("client.pem"));
        command.env("PODTAP_KAFKA_TLS_KEY_FILE", file("client.key"));
        command.env("PODTAP_KAFKA_SASL_USERNAME", "podtap").envs(settings.iter().map(|(key, value)| (*key, value)));
        let output = process::captured(&mut command)?;
        Ok::<_, anyhow::Error>((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let mechanism = |name: &str| ("PODTAP_KAFKA_SASL_MECHANISM", name.to_owned());
    let by_file = ("PODTAP_KAFKA_SASL_PASSWORD_FILE", file("password"));
    let by_variable = |password: &str| ("PODTAP_KAFKA_SASL_PASSWORD", password.to_owned());
    for settings in [
        [mechanism("scram_sha_512"), by_file.clone()],
        [mechanism("scram_sha_256"), by_variable(PASSWORD)],
        [mechanism("plain"), by_file.clone()],
    ] {
        let (succeeded, said) = replay(&settings)?;
        ensure!(succeeded, "{}: {said}", settings[0].1);
    }
    let wrong = [
        ("a wrong password", vec![mechanism("scram_sha_512"), by_variable("wrong-horse")], "uthentication failed"),
        (
            "an authority that nobody knows",
            vec![mechanism("plain"), by_file.clone(), ("PODTAP_KAFKA_TLS_CA_FILE", file("other.pem"))],
            "certificate verify failed",
        ),
        (
            "a password file that is not there",
            vec![mechanism("plain"), ("PODTAP_KAFKA_SASL_PASSWORD_FILE", file("missing"))],
            "the password cannot be read",
        ),
    ];
    for (what, settings, expected) in wrong {
        let (succeeded, said) = replay(&settings)?;
        ensure!(!succeeded && said.contains(expected), "{what}: {said}");
        ensure!(!said.contains("horse"), "{what}: the password is shown: {said}");
    }
    println!("security: TLS with a client's certificate, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; 3 mistakes named");
    by_token(&podtap, &folder, &format!("127.0.0.1:{token_port}"))
}

/// How long a token is good for that is replaced while podtap runs, and for how long that is.
const SHORT: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(20);

/// Proves by a token who podtap is, also when that expires while podtap runs, to write and to read.
fn by_token(podtap: &Path, folder: &Path, brokers: &str) -> Result<()> {
    let file = folder.join("token");
    let with = |mut command: Command, file: &Path| {
        command.args(["--kafka-brokers", brokers, "--kafka-topic", "tokens"]);
        prove(&mut command, folder, file);
        command
    };
    let replay = |file: &Path| {
        let mut command = release::command(podtap);
        command.arg("replay").arg(workspace::http_captures().join("servers-tour.pcap")).arg("--no-summary");
        let output = process::captured(&mut with(command, file))?;
        Ok::<_, anyhow::Error>((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let wrong = [
        ("a token that has expired", token(Duration::ZERO)?, "the token in it has expired"),
        ("no token", String::new(), "it is empty"),
        // Claims of which the broker makes nothing.
        ("a token that the broker refuses", "correct.horse.battery".to_owned(), "uthentication"),
    ];
    for (what, content, expected) in wrong {
        fs::write(&file, &content)?;
        let (succeeded, said) = replay(&file)?;
        ensure!(!succeeded && said.contains(expected), "{what}: {said}");
        ensure!(content.is_empty() || !said.contains(&content), "{what}: the token is shown: {said}");
    }
    let (succeeded, said) = replay(&folder.join("missing"))?;
    ensure!(!succeeded && said.contains("check kafka.sasl_token_file"), "no token file: {said}");

    fs::write(&file, token(SHORT)?)?;
    let mut loops = Loops::read()?;
    loops.record(&folder.join("tokens.pcap"))?;
    let mut command = release::command(podtap);
    command.args(["replay", "-"]);
    // Until podtap has ended: a connection that broke shortly before needs a good token as well.
    let (stop, stopped) = mpsc::channel::<()>();
    let (new, path) = (folder.join("token.new"), &file);
    let renew = move || -> Result<()> {
        while stopped.recv_timeout(SHORT / 3) == Err(RecvTimeoutError::Timeout) {
            // In one go, as Kubernetes does.
            fs::write(&new, token(SHORT)?)?;
            fs::rename(&new, path)?;
        }
        Ok(())
    };
    let publish = || {
        let mut running = Podtap::start(&mut with(command, &file), &loops.header, folder.join("tokens.log"))?;
        let begun = Instant::now();
        loops.feed_until(&mut running, Duration::from_millis(200), LONG * 2, || Ok(begun.elapsed() > LONG))?;
        running.end()
    };
    let (ended, renewed) = std::thread::scope(|scope| {
        let renewing = scope.spawn(renew);
        let ended = publish();
        drop(stop);
        (ended, renewing.join())
    });
    renewed.map_err(|_| anyhow!("the thread that renews the token panicked"))??;
    let ended = ended?;
    ensure!(ended.dropped == 0, "{} events were not delivered", ended.dropped);

    let mut read = release::command(podtap);
    read.args(["read", "--brokers", brokers, "--topic", "tokens", "--output", "json", "--count", "10"]);
    prove(&mut read, folder, &file);
    let lines = process::output(&mut read)?.lines().count();
    ensure!(lines == 10, "{lines} of 10 events were read");
    println!(
        "security: OAUTHBEARER over TLS, written and read; {} s with tokens good for {} s each; 4 mistakes named",
        LONG.as_secs(),
        SHORT.as_secs()
    );
    Ok(())
}

fn prove(command: &mut Command, folder: &Path, token: &Path) {
    command.env("PODTAP_KAFKA_TLS", "true").env("PODTAP_KAFKA_CONNECT_TIMEOUT", "4s");
    command.env("PODTAP_KAFKA_TLS_CA_FILE", folder.join("ca.pem"));
    command.env("PODTAP_KAFKA_SASL_MECHANISM", "oauthbearer").env("PODTAP_KAFKA_SASL_TOKEN_FILE", token);
}

/// An unsecured JWT (RFC 7519, 6) that is good for so long.
fn token(lifetime: Duration) -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let claims = serde_json::json!({ "sub": "podtap", "iat": now.as_secs(), "exp": (now + lifetime).as_secs() });
    Ok(format!("{}.{}.", BASE64URL.encode(r#"{"alg":"none"}"#), BASE64URL.encode(claims.to_string())))
}

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    process::output(Command::new("openssl").current_dir(folder).args(arguments.split(' '))).map(drop)
}

fn make_authority(folder: &Path, name: &str) -> Result<()> {
    openssl(
        folder,
        &format!("req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2"),
    )
}

/// Key, request and certificate; the key in PKCS #8, as Java wants it.
fn make_certificate(folder: &Path, name: &str) -> Result<()> {
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n")?;
    openssl(
        folder,
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {name}.key".replace("{name}", name).as_str(),
    )?;
    openssl(folder, &format!("req -new -key {name}.key -out {name}.csr -subj /CN={name}"))?;
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile names"
        ),
    )
}

fn properties(folder: &Path) -> String {
    let (prefix, token) = ("listener.name.secure", "listener.name.token");
    let login = "org.apache.kafka.common.security";
    let file = |name: &str| folder.join(name).display().to_string();
    format!(
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,TOKEN:SASL_SSL\n\
         {prefix}.ssl.keystore.type=PEM\n\
         {prefix}.ssl.keystore.location={}\n\
         {prefix}.ssl.truststore.type=PEM\n\
         {prefix}.ssl.truststore.location={}\n\
         {prefix}.ssl.client.auth=required\n\
         {prefix}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         {prefix}.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_podtap=\"{PASSWORD}\";\n\
         {prefix}.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
         {prefix}.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
         {token}.ssl.keystore.type=PEM\n\
         {token}.ssl.keystore.location={}\n\
         {token}.sasl.enabled.mechanisms=OAUTHBEARER\n\
         {token}.oauthbearer.connections.max.reauth.ms=3000\n\
         {token}.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required;\n",
        file("server.store.pem"),
        file("ca.pem"),
        file("server.store.pem"),
    )
}
