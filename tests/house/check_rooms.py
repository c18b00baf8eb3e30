"""A house with rooms: a library links what its folder includes, every room has a README, and the
list of rooms in CONTRIBUTING.md is what the libraries link. Files are opened for reading in core/io
alone, which notes them. Reads rooms.txt, which CMake writes."""
import re
import sys
from pathlib import Path

root, rooms_file = Path(sys.argv[1]), Path(sys.argv[2])
folder_of, sources, links, public = {}, {}, {}, {}
for line in rooms_file.read_text().splitlines():
    name, folder, files, linked, exported = line.split("|")
    folder_of[name], sources[name] = folder, files.split()
    links[name], public[name] = ([
        t.removeprefix("vyx::") for t in text.split() if t.startswith("vyx::")
    ] for text in (linked, exported))

problems = []
own_room = {
    folder.replace("/", "_"): folder
    for folder in folder_of.values()
}  # a folder's own library
room_of = {
    f"{folder_of[name]}/{Path(file).stem}": name
    for name in sources
    for file in sources[name]
}


def owner(path):
    """The library of a file; a header without a source belongs to the folder's own."""
    library = room_of.get(path.with_suffix("").as_posix(), path.parent.as_posix().replace("/", "_"))
    return library if library in folder_of else None


def reachable(name):
    """The libraries whose headers `name` may include: what it links, and what those hand on."""
    found, left = {name}, list(links[name])
    while left:
        if (library := left.pop()) in folder_of and library not in found:
            found.add(library)
            left += public[library]
    return found


OPENS = re.compile(r"\b(ifstream|fopen|O_RDONLY|O_RDWR)\b")
SYSTEM = ("/proc/", "/dev/")  # no inputs

includes = 0
for folder in sorted(set(folder_of.values())):
    for file in sorted((root / folder).glob("*.[ch]*")):
        name = owner(file.relative_to(root))
        if name is None:
            problems.append(f"{file.relative_to(root)}: is in no library")
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if OPENS.search(line) and folder != "core/io" and not any(s in line for s in SYSTEM):
                problems.append(f"{file.relative_to(root)}:{number}: opens a file; MappedFile and "
                                "read_text_file of core/io do, so that files_read() knows it")
            included = re.match(r'#include "(\w+/.*)"', line)
            if not included or not (target := owner(Path(included[1]))):
                continue
            includes += 1
            if target not in reachable(name):
                problems.append(f"{file.relative_to(root)}:{number}: includes {included[1]}, "
                                f"but vyx::{name} does not link vyx::{target}")

layers = {name for name in sources if "/" not in folder_of[name]}
for folder in sorted({folder_of[name] for name in sources}):
    if not (root / folder / "README.md").exists():
        problems.append(f"{folder}: has no README.md")

listed = dict(
    re.findall(r"^(\S+/\S+) *← *(.*?)(?: *#.*)?$", (root / "CONTRIBUTING.md").read_text(), re.M))
for name, folder in sorted(folder_of.items()):
    if name in layers or folder.replace("/", "_") != name:
        continue
    rooms = sorted({folder_of[link] for link in links[name] if link in folder_of} - {folder})
    if (said := sorted(re.split(r", *", listed.get(folder, "")))) != (rooms or [""]):
        problems.append(
            f"CONTRIBUTING.md: says {folder} ← {', '.join(said)}; it links {', '.join(rooms)}")

for problem in problems:
    print(problem)
print(f"{len(folder_of)} libraries, {includes} includes, {len(problems)} problems")
sys.exit(bool(problems) or includes == 0)
