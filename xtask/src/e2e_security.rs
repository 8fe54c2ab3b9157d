//! `cargo xtask e2e security`: does podtap publish to a real Apache Kafka that wants TLS, a client's certificate and SASL,
//! and does it say what is wrong without showing a secret?
//!
//! A listener of its own is made with certificates from the openssl program, and users for PLAIN and SCRAM.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{kafka, process, release, workspace};

/// Programs that the check needs, beside those of the broker.
pub(crate) const PROGRAMS: [&str; 1] = ["openssl"];

/// Of the user `podtap`.
const PASSWORD: &str = "correct-horse-battery";

/// Publishes with every kind of proof, and with wrong ones.
pub(crate) fn run() -> Result<()> {
    let podtap = release::build()?;
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
    let _broker = kafka::Victim::start(&kafka::Extra {
        listener: format!(",SECURE://127.0.0.1:{port}"),
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
    Ok(())
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
    let prefix = "listener.name.secure";
    let login = "org.apache.kafka.common.security";
    let file = |name: &str| folder.join(name).display().to_string();
    format!(
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL\n\
         {prefix}.ssl.keystore.type=PEM\n\
         {prefix}.ssl.keystore.location={}\n\
         {prefix}.ssl.truststore.type=PEM\n\
         {prefix}.ssl.truststore.location={}\n\
         {prefix}.ssl.client.auth=required\n\
         {prefix}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         {prefix}.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_podtap=\"{PASSWORD}\";\n\
         {prefix}.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
         {prefix}.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n",
        file("server.store.pem"),
        file("ca.pem"),
    )
}
