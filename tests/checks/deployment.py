"""Checks docker-compose.yml and the Dockerfile as far as that goes without Docker: that they can be read, that what they
refer to exists, and that nothing is left to chance (versions, users, health)."""

import os
import pathlib
import re
import subprocess
import sys

INSTRUCTIONS = set(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split()
)
faults = []


def expect(condition, complaint):
    if not condition:
        faults.append(complaint)


def pinned(image):
    return "@sha256:" in image or (":" in image and not image.endswith(":latest"))


def check_compose(yaml):
    compose = yaml.safe_load(pathlib.Path("docker-compose.yml").read_text())
    services = compose.get("services", {})
    volumes = compose.get("volumes") or {}
    expect("proxy" in services and "postgres" in services, "docker-compose.yml: it needs the services proxy and postgres")
    for name, service in services.items():
        where = f"docker-compose.yml: {name}"
        expect("image" in service or "build" in service, f"{where} has neither an image nor a build")
        expect("build" in service or pinned(service.get("image", "")), f"{where}: the image has no version")
        depends = service.get("depends_on", {})
        for other in depends:
            expect(other in services, f"{where} depends on {other}, which does not exist")
            if isinstance(depends, dict) and depends[other].get("condition") == "service_healthy":
                expect("healthcheck" in services.get(other, {}), f"{where} waits for {other}, which has no healthcheck")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            expect(source.startswith((".", "/")) or source in volumes, f"{where}: the volume {source} is not declared")
        for variable, value in (service.get("environment") or {}).items():
            expect(value is not None, f"{where}: {variable} has no value")
    postgres = services.get("postgres", {})
    expect(postgres.get("volumes"), "docker-compose.yml: the database has no volume")
    expect("healthcheck" in postgres, "docker-compose.yml: the database has no healthcheck")
    return set((services.get("proxy", {}).get("environment") or {}).keys())


def check_dockerfile():
    text = pathlib.Path("Dockerfile").read_text()
    logical = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    stages, last, variables = [], [], set()
    for line in filter(None, (line.strip() for line in logical.splitlines())):
        word, _, rest = line.partition(" ")
        expect(word in INSTRUCTIONS, f"Dockerfile: `{word}` is no instruction")
        if word == "FROM":
            image, *alias = rest.split()
            expect(pinned(image) or image in stages, f"Dockerfile: the image {image} has no version")
            stages.append(alias[1] if len(alias) == 2 else image)
            last = []
        last.append((word, rest))
        source = re.search(r"--from=(\S+)", rest) if word == "COPY" else None
        if source:
            expect(source.group(1) in stages[:-1], f"Dockerfile: there is no stage {source.group(1)}")
        if word == "ENV":
            variables |= {pair.split("=")[0] for pair in rest.split() if "=" in pair}
    words = [word for word, _rest in last]
    users = [rest for word, rest in last if word == "USER"]
    expect(len(stages) > 1, "Dockerfile: the compiler should not be in the image that runs")
    expect(users and users[-1] not in ("root", "0"), "Dockerfile: the program would run as root")
    for needed in ("ENTRYPOINT", "HEALTHCHECK", "EXPOSE"):
        expect(needed in words, f"Dockerfile: the last stage has no {needed}")
    return variables


def check_variables(used):
    """Every SYNCV3_ variable that the files set is one that the program reads."""
    config = "".join(path.read_text() for path in pathlib.Path("cmd/src").rglob("*.rs"))
    known = set(re.findall(r'"(SYNCV3_[A-Z0-9_]+)"', config))
    for variable in sorted(used):
        expect(not variable.startswith("SYNCV3_") or variable in known, f"{variable} is no setting of the program")


def yaml_from_the_synapse_environment():
    """Python has no YAML of its own. Synapse has one, and is set up for the tests anyway."""
    for python in sorted(pathlib.Path(".dev").glob("synapse-*/bin/python")):
        if python.exists() and str(python) != os.environ.get("DEPLOYMENT_CHECK_PYTHON"):
            environment = {**os.environ, "DEPLOYMENT_CHECK_PYTHON": str(python)}
            sys.exit(subprocess.run([python, __file__], env=environment, check=False).returncode)
    sys.exit("no YAML for Python here: run tests/setup synapse, or install python3-yaml")


def main():
    try:
        import yaml
    except ImportError:
        yaml_from_the_synapse_environment()
    used = check_compose(yaml) | check_dockerfile()
    check_variables(used)
    if faults:
        sys.exit("\n".join(faults))
    print("docker-compose.yml and Dockerfile can be read and refer to what exists")


main()
