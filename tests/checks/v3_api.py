"""Checks that docs/v3-api.md and docs/openapi.json name the same: streams, fields, defaults, limits, orders and errors.

A field has a row of its stream's table, or the row around it has its name in backticks. Fields of events are the Matrix
specification's, and so is what the page says to be as in `GET /sync`. The check also checks itself: each row that is taken
out of the page, and each field that is renamed in the description, has to be a fault.

    python3 tests/checks/v3_api.py
"""

import copy
import json
import pathlib
import re
import sys

PAGE = pathlib.Path("docs/v3-api.md")
DESCRIPTION = pathlib.Path("docs/openapi.json")

ENDPOINT = "/_matrix/client/v3/sync"
# Schemas that the page does not take apart.
AS_IN_THE_SPECIFICATION = re.compile(r"Event|StrippedState|UnreadCounts|Summary")
# The homeserver's own, so the page does not name it.
OF_THE_HOMESERVER = {"M_UNKNOWN_TOKEN"}


# The page


def sections(page):
    """The lines of each section, by its title without backticks; a section ends where the next title stands."""
    found, title = {}, ""
    for line in page.splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ").strip("`")
        found.setdefault(title, []).append(line)
    return found


def tables(lines):
    """The tables of a section: the first cell of each head, and the rows as lists of cells."""
    found = []
    for before, line in zip([""] + lines, lines):
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not before.startswith("|"):
            found.append((cells[0].strip("`| "), []))
        elif not re.fullmatch(r"[|: -]+", line):
            found[-1][1].append(cells)
    return found


def names(cell):
    """The names in backticks; `….` stands for the rooms of the row before."""
    return [name.replace("….", "rooms.") for name in re.findall(r"`([^`]+)`", cell)]


def words(cell):
    """All words in backticks, also within a piece of JSON."""
    return {word for code in re.findall(r"`([^`]+)`", cell) for word in re.findall(r"\w+", code)}


def fields_on_page(stream, page):
    """What the page says of the fields of a stream: for `request` and `reply`, the text of each field's row by its path."""
    found = {"request": {}, "reply": {}}
    prefixes = {"request": ("request", ""), "filter": ("request", "filters."), "reply": ("reply", ""), "rooms[]": ("reply", "rooms.")}
    for head, rows in tables(page.get(stream, [])):
        if head not in prefixes:
            continue
        kind, prefix = prefixes[head]
        for cells in rows:
            for name in names(cells[0]):
                found[kind][prefix + name] = cells[1] if len(cells) > 1 else ""
    return with_pagination(found, page)


def with_pagination(found, page):
    """The rows of the section on pagination belong to each stream with a `p` in which they are not its own."""
    general = {head: rows for head, rows in tables(page["Pagination"])}
    paged = any(path.startswith("p.") for path in found["request"])
    for kind, head in [("request", "in a request"), ("reply", "in a reply")]:
        for cells in general[head] if paged else []:
            for name in names(cells[0]):
                found[kind].setdefault(name, cells[1])
    return found


# The description


def resolve(schema, api):
    """A schema with what it refers to; and the name of that."""
    name = ""
    while "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**api["components"]["schemas"][name], **beside}
    return schema, name


def fields_of(schema, api, path=""):
    """The fields of a schema by their paths; what is by room ID, and the entries of lists, count as the field that holds them."""
    schema, name = resolve(schema, api)
    if AS_IN_THE_SPECIFICATION.search(name):
        return {}
    found = {}
    for inner in [schema.get("items"), schema.get("additionalProperties")]:
        if isinstance(inner, dict):
            found.update(fields_of(inner, api, path))
    for key, value in schema.get("properties", {}).items():
        found[path + key] = resolve(value, api)[0]
        found.update(fields_of(value, api, f"{path}{key}."))
    return found


def entries_of(schema, api):
    return resolve(schema, api)[0].get("items", {}).get("$ref")


def limits_of(schema):
    """The numbers that a value or a list is limited to."""
    own = {schema[key] for key in ["x-lowered-to", "maximum", "maxItems"] if key in schema}
    return own.union(*(limits_of(inner) for inner in schema.get("anyOf", [])))


# Both


def faults_of_fields(where, rows, fields):
    for path in sorted(rows.keys() - fields.keys()):
        yield f"{where}: {DESCRIPTION} has no `{path}`"
    for path, schema in fields.items():
        around, _, last = path.rpartition(".")
        if path in rows:
            yield from faults_of_row(f"{where}, `{path}`", rows[path], schema)
        elif (around or where.endswith("request") and path == "p") and any(row.startswith(path + ".") for row in rows):
            # It only holds others. At the top a field has a row all the same, but for the `p` of a request.
            continue
        elif around not in rows or last not in words(rows[around]):
            yield f"{where}: {PAGE} has no `{path}`"


def faults_of_row(where, text, schema):
    """Defaults and limits, which both say."""
    said = re.search(r"(?:`([^`]+)`|(\d+)) \(?if left out", text)
    default = json.dumps(schema.get("default"))
    if said is None and "default" in schema:
        yield f"{where}: the page does not say that {default} is meant if it is left out"
    if said is not None and (said[1] or said[2]) not in [default, schema.get("default")]:
        yield f"{where}: {said[1] or said[2]} if left out on the page, {default} in {DESCRIPTION}"
    most = {int(number) for number in re.findall(r"(\d+)(?: \w+)? at most", text)}
    if most and most != limits_of(schema):
        yield f"{where}: {sorted(most)} at most on the page, {sorted(limits_of(schema))} in {DESCRIPTION}"


def faults_of_stream(stream, page, api):
    schemas = api["components"]["schemas"]
    rows = fields_on_page(stream, page)
    fields = {}
    for kind, whole in [("request", "Request"), ("reply", "Reply")]:
        fields[kind] = fields_of(schemas[whole]["properties"][stream], api)
    reply = resolve(schemas["Reply"]["properties"][stream], api)[0]["properties"]
    for path, text in list(rows["reply"].items()):
        same = re.search(r"Entries as in `(\w+)`", text)
        if same is None:
            continue
        fields["reply"] = {other: schema for other, schema in fields["reply"].items() if not other.startswith(path + ".")}
        if path in reply and entries_of(reply[path], api) != entries_of(reply.get(same[1], {}), api):
            yield f"{stream}: the entries of `{path}` are not as in `{same[1]}`"
    for kind in rows:
        yield from faults_of_fields(f"{stream}, {kind}", rows[kind], fields[kind])
    for path, schema in fields["reply"].items():
        asked = fields["request"].get(path, {}).get("x-lowered-to")
        if asked is not None and schema.get("maximum") != asked:
            yield f"{stream}: `{path}` is lowered to {asked}, and can be {schema.get('maximum')} in a reply"


def faults_of_streams(page, api):
    schemas = api["components"]["schemas"]
    listed = {name for head, rows in tables(page["Streams"]) if head == "stream" for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}
    asked, told = set(schemas["Request"]["properties"]), set(schemas["Reply"]["properties"])
    for what, streams in [("asked for", asked), ("told", told - {"next"})]:
        if streams != listed:
            yield f"the streams {sorted(streams ^ listed)} are either listed on the page or {what} in {DESCRIPTION}"
    for stream in sorted(listed & asked & told):
        if stream not in page:
            yield f"the stream `{stream}` has no section on the page"
        else:
            yield from faults_of_stream(stream, page, api)
    orders = {name for head, rows in tables(page["room_list"]) if head == "order" for cells in rows for name in names(cells[0])}
    if orders != set(schemas["RoomOrder"]["enum"]):
        yield f"the orders of room_list are {sorted(orders)} on the page"


def faults_of_errors(page, api):
    responses = api["paths"][ENDPOINT]["post"]["responses"]
    described = {}
    for status in responses.keys() - {"200", "default"}:
        schema = resolve(responses[status]["content"]["application/json"]["schema"], api)[0]
        described[status] = set(re.findall(r"M_[A-Z_]+", json.dumps(schema["properties"]["errcode"])))
    listed = {}
    for _head, rows in tables(page["Errors"]):
        for cells in rows:
            for status in re.findall(r"\d{3}", cells[1]):
                listed.setdefault(status, set()).update(re.findall(r"M_[A-Z_]+", cells[2]))
    for status in sorted(described.keys() | listed.keys()):
        if described.get(status, set()) - OF_THE_HOMESERVER != listed.get(status):
            yield f"{status} is {sorted(listed.get(status, set()))} on the page, {sorted(described.get(status, set()))} in {DESCRIPTION}"


def faults_of_transport(page, api):
    rows = {name for _head, rows in tables(page["Transport"]) for cells in rows for name in names(cells[0])}
    for parameter in api["paths"][ENDPOINT]["post"]["parameters"]:
        if parameter["name"] not in rows:
            yield f"the page does not tell of the parameter `{parameter['name']}`"


def faults_of(text, api):
    page = sections(text)
    return [*faults_of_transport(page, api), *faults_of_errors(page, api), *faults_of_streams(page, api)]


# The check of the check


def each_row_taken_out(text):
    """The page without one row of the tables that count, for each of them."""
    lines = text.splitlines()
    title = head = ""
    for number, line in enumerate(lines):
        title = line.lstrip("# ").strip("`") if line.startswith("#") else title
        if line.startswith("|") and not lines[number - 1].startswith("|"):
            head = line
        elif line.startswith("| ") and re.match(r"\| (request|reply|order|filter|stream|`rooms)", head):
            yield f"the row {line[:40]}… of {title}", "\n".join(lines[:number] + lines[number + 1 :])


def each_field_renamed(api):
    """The description with another name for one field of a stream, for each of them."""
    for name, schema in api["components"]["schemas"].items():
        if not re.search(r"Request$|Reply$|^Room$|^RoomListEntry$", name) or name == "BadRequest":
            continue
        for path in paths_of_properties(schema):
            changed = copy.deepcopy(api)
            place = changed["components"]["schemas"][name]
            for key in path[:-1]:
                place = place[key]
            place[f"{path[-1]}_renamed"] = place.pop(path[-1])
            yield f"{name}: {'/'.join(path)}", changed


def paths_of_properties(schema, path=()):
    for key, value in schema.items():
        if key == "properties":
            yield from ((*path, key, name) for name in value)
        if isinstance(value, dict):
            yield from paths_of_properties(value, (*path, key))


def broken_samples_that_pass(text, api):
    samples = [(what, text, changed) for what, changed in each_field_renamed(api)]
    samples += [(what, changed, api) for what, changed in each_row_taken_out(text)]
    if len(samples) < 100:
        yield "there are too few broken samples: the check of the check is broken"
    for what, changed_text, changed_api in samples:
        try:
            if not faults_of(changed_text, changed_api):
                yield f"the check is broken: it does not see a change of {what}"
        except KeyError:
            pass


def main():
    text, api = PAGE.read_text(), json.loads(DESCRIPTION.read_text())
    faults = faults_of(text, api) or list(broken_samples_that_pass(text, api))
    streams = len(api["components"]["schemas"]["Request"]["properties"])
    print(f"{streams} streams on the page and in the description")
    if faults:
        sys.exit("\n".join(faults))


main()
