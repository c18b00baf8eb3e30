"""No line of code has over 100 columns: C++, CMake, Python, sh."""
import sys
import unicodedata
from pathlib import Path

root = Path(sys.argv[1])
folders = ("core", "models", "steering", "sae", "apps", "tests", "third_party")
files = [root / "CMakeLists.txt", root / "vyx"]
files += [path for folder in folders for path in sorted((root / folder).rglob("*"))]

lines, problems = 0, 0
for file in files:
    if file.suffix not in (".cpp", ".h", ".cmake", ".in", ".py", ".sh") and file.name not in (
            "CMakeLists.txt", "vyx"):
        continue
    for number, line in enumerate(file.read_text().splitlines(), 1):
        lines += 1
        columns = sum(not unicodedata.combining(character) for character in line)  # x̂ takes one
        if columns > 100:
            problems += 1
            print(f"{file.relative_to(root)}:{number}: {columns} columns, expected 100 or less")
print(f"{lines} lines, {problems} problems")
sys.exit(problems > 0 or lines == 0)
