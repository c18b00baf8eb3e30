"""An option that nothing reads on a command line is wrong usage, in every driver."""

import pytest

from test_drivers import DRIVERS


def argument(described, name, value=None):
    """An option with a value, its own or any; each text is another, since no output may be an
    input."""
    option = {option["name"]: option for option in described["options"]}[name]
    if option["type"] == "switch":
        return ["--" + name]
    anything = f"x-{name}" if option["type"] == "text" else "3"
    return [f"--{name}={anything if value is None else value}"]


def required(described, without=()):
    return [
        word for option in described["options"]
        if option["required"] and option["name"] not in without
        for word in argument(described, option["name"])
    ]


def conditions(described):
    """Each option that has an effect under conditions alone, and each of these."""
    return [(option["name"], condition) for option in described["options"]
            for condition in option.get("effect", [])]


def against(described, condition):
    """Options that break the condition, and what they need themselves."""
    kind, options, values = condition["kind"], condition["options"], condition["values"]
    if kind in ("needs", "never"):
        return {}
    given = fulfilled(described, options[0])
    if kind != "not-with":
        given[options[0]] = argument(described, options[0],
                                     "x" if kind == "only-with" else values[0])
    return given


def fulfilled(described, name, seen=()):
    """The option with what it needs, or None where it never has an effect."""
    given = {name: argument(described, name)}
    for option, condition in conditions(described):
        kind, options, values = condition["kind"], condition["options"], condition["values"]
        if option != name or kind == "not-with":
            continue
        if kind == "never":
            return None
        if kind == "needs" and not set(options) & {*seen, *given}:
            given |= fulfilled(described, options[0], (*seen, *given))
        elif kind == "only-with":
            given |= fulfilled(described, options[0], (*seen, *given))
            given[options[0]] = argument(described, options[0], values[0])
        elif kind == "unless":
            given |= fulfilled(described, options[0], (*seen, *given))
    return given


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_option_without_effect_is_refused_before_the_work(drivers, driver):
    described = drivers.describe(driver)
    names = {option["name"] for option in described["options"]}
    for name, condition in conditions(described):
        assert set(condition["options"]) <= names, (name, condition)
        given = {name: argument(described, name)} | against(described, condition)
        line = drivers.error(driver, *required(described, without=given),
                             *(word for words in given.values() for word in words), code=2)
        assert f"--{name} has no effect" in line or f"--{name} has an effect only" in line


@pytest.mark.parametrize("driver", DRIVERS)
def test_it_is_taken_where_it_has_one(drivers, driver):
    described = drivers.describe(driver)
    for name in {name for name, _ in conditions(described)}:
        given = fulfilled(described, name)
        if given is None:
            continue
        arguments = [word for words in given.values() for word in words]
        result = drivers.run(driver, *required(described, without=given), *arguments)
        assert result.returncode in (1, 2)  # no such file
        assert "effect" not in result.stderr, (given, result.stderr)


def test_every_driver_says_whether_it_is_random(drivers):
    random = {
        driver
        for driver in DRIVERS
        for option in drivers.describe(driver)["options"] if option["name"] == "seed"
        and "never" not in [condition["kind"] for condition in option.get("effect", [])]
    }
    assert random == {
        "vyx-ablate", "vyx-compare", "vyx-generate", "vyx-harvest", "vyx-sae-eval", "vyx-sae-train"
    }


def test_what_is_refused_says_when_it_has_an_effect(drivers):
    generate = "vyx-generate", "--model", "m", "--prompt", "p"
    for arguments, message in [
        (("--latent", "5=1"), "--latent has no effect without --sae"),
        (("--sae", "s"), "--sae has no effect without --latent or --without-error"),
        (("--top-k", "5"), "--top-k has no effect with --temperature 0, the default"),
        (("--top-p", ".5", "--temperature", "0.0"), "--top-p has no effect with --temperature 0.0"),
        (("--seed", "0"), "--seed has no effect with --temperature 0, the default"),
        (("--sites", "x"), "--sites has no effect without --vector"),
        (("--positions", "all"), "--positions has no effect without --vector or --sae"),
    ]:
        line = drivers.error(*generate, *arguments, code=2)
        assert line == f"vyx-generate: {message}; see vyx-generate --help\n"
