"""Figures 3 and 4: pieces of work are kept, samples agree with exact values, panels have errors."""

from __future__ import annotations

import csv
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

torch = pytest.importorskip("torch")

from rram_host.cli import cli  # noqa: E402
from rram_host.errors import InputError  # noqa: E402
from rram_host.experiments.deploy_flow import DeployPlan  # noqa: E402
from rram_host.experiments.lattice_figures import (  # noqa: E402
    analysis,
    drawing,
    figure,
    samples,
)
from rram_host.experiments.lattice_figures.common_panels import Context, known  # noqa: E402
from rram_host.experiments.lattice_figures.drawing import Panel, Point, rows  # noqa: E402
from rram_host.experiments.lattice_figures.plan import (  # noqa: E402
    FIG3,
    FIG4,
    REPEATS,
    FigurePlan,
    System,
    graphene,
    phi4,
)
from rram_host.experiments.lattice_figures.samples import (  # noqa: E402
    ARRAY,
    EDGES,
    HMC,
    HMC_1,
    SOFTWARE,
    jobs,
    of_length_one,
    proposals,
)
from rram_host.experiments.lattice_figures.store import Store  # noqa: E402
from rram_host.experiments.steps import Steps  # noqa: E402
from rram_host.lattice.actions import Phi4Action  # noqa: E402
from rram_host.lattice.samplers import HmcSettings, tuned  # noqa: E402

SMALL3 = FigurePlan(
    "fig3",
    compared=(phi4(4, 5.5),),
    scanned=(),
    array_lengths=(),
    tuned="hmc",
    proposals=128,
    chains=3,
    kept=100,
)
SMALL4 = FigurePlan(
    "fig4",
    compared=(graphene(6, 1.0, 0.2),),
    scanned=(graphene(6, 1.0, 0.0),),
    array_lengths=(),
    tuned="fourier-hmc",
    proposals=128,
    chains=3,
    kept=100,
)


class Gaussian:
    """Independent normal fields with a density that is known: a flow of which all is exact."""

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, 2, 2, generator=generator, dtype=torch.float64)

    def push(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return z, -0.5 * (z * z).sum((1, 2)) - 2 * np.log(2 * np.pi)


class Normal:
    """Its action."""

    name = "normal"

    def __call__(self, phi: torch.Tensor) -> torch.Tensor:
        return 0.5 * (phi * phi).sum((1, 2))

    def force(self, phi: torch.Tensor) -> torch.Tensor:
        return phi


@pytest.fixture(scope="module")
def folder3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fig3")


@pytest.fixture(scope="module")
def folder4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fig4")


@pytest.fixture(scope="module")
def context3(folder3: Path) -> Context:
    return made(SMALL3, folder3)


@pytest.fixture(scope="module")
def context4(folder4: Path) -> Context:
    return made(SMALL4, folder4)


def made(plan: FigurePlan, folder: Path) -> Context:
    """Recorded and written, but for the drawing."""
    context, finished = figure.record(plan, folder)
    assert finished
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        figure.write(context, folder)
    return context


def undrawn(patch: pytest.MonkeyPatch) -> None:
    """All of a figure but the drawing, which takes seconds."""
    patch.setattr(figure, "draw", lambda path, *_: path.touch())


@pytest.mark.parametrize("board", ["http://x", "sim://?preset=ideal"])
def test_a_board_that_will_not_do_is_refused_before_any_work(tmp_path: Path, board: str) -> None:
    done: list[samples.Job] = []
    with pytest.raises(InputError, match="http|seed"):
        figure.record(replace(FIG3, board=board), tmp_path, done=done.append)
    assert not done


def test_a_flow_on_several_arrays_has_two_cells_a_weight() -> None:
    arrays = {job.system.length: job.settings for job in jobs(FIG3) if job.method == ARRAY}
    schemes = {length: settings["deploy"]["scheme"] for length, settings in arrays.items()}
    assert schemes == {4: "single", 6: "single", 12: "differential"}


def test_plans_name_the_agreed_models():
    assert [s.model for s in FIG3.compared] == ["phi4_L4_lam5", "phi4_L6_lam5", "phi4_L12_lam5"]
    assert {"phi4_L4", "phi4_L6_lam6"} <= {s.model for s in FIG3.systems}
    assert {"graphene_L12_g0.5_m0.2", "graphene_L6_g1_m0"} <= {s.model for s in FIG4.systems}
    assert len(set(FIG4.systems)) == len(FIG4.systems)


def test_finished_work_is_not_done_again(folder3: Path, context3: Context):
    before = {p.name: p.stat().st_mtime_ns for p in (folder3 / "work").iterdir()}
    assert len(before) == len(jobs(SMALL3))
    figure.record(SMALL3, folder3)
    assert {p.name: p.stat().st_mtime_ns for p in (folder3 / "work").iterdir()} == before


def test_work_of_other_settings_is_refused(folder3: Path, context3: Context):
    with pytest.raises(InputError, match="other settings"):
        figure.record(replace(SMALL3, seed=8), folder3)


def test_a_figure_that_was_broken_off_goes_on(tmp_path: Path):
    plan = replace(SMALL4, kept=8, chains=1)
    context, finished = figure.record(plan, tmp_path, should_stop=lambda: True)
    assert not finished
    assert len(context.samples) == 1
    first = next((tmp_path / "work").iterdir())
    before, done = first.stat().st_mtime_ns, []
    _, finished = figure.record(plan, tmp_path, done=lambda job: done.append(job.name))
    assert finished
    assert first.stat().st_mtime_ns == before
    assert sorted(done) == sorted(path.stem for path in (tmp_path / "work").iterdir())


def test_a_figure_is_drawn_with_what_there_is(context4: Context):
    first = dict([next(iter(context4.samples.items()))])
    assert len(figure.panels(Context(SMALL4, first))) == 12


def test_a_piece_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 broken off")
    with pytest.raises(InputError, match=r"x\.npz cannot be read"):
        Store(tmp_path).get("x", {}, dict)


def test_the_picture_can_be_read(context3: Context, tmp_path: Path):
    some = [panel for panel in figure.panels(context3) if panel.place in ("3a", "3c", "3g")]
    drawing.draw(tmp_path / "some.png", "some", some, 3)
    with Image.open(tmp_path / "some.png") as picture:
        assert picture.size[0] > 1500
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["some.png"]


def test_a_reference_is_no_chord_over_a_coupling_that_it_does_not_know():
    known_at = drawing.Line("reference", [0, 2], [0.135, 0.081], "L = 6")
    x, y = drawing.with_gaps(known_at)
    assert len(x) == 3 and np.isnan(x[1]) and np.isnan(y[1])
    whole = drawing.Line("reference", [0, 1, 2], [3.0, 2.0, 1.0], "L = 4")
    assert drawing.with_gaps(whole) == ([0, 1, 2], [3.0, 2.0, 1.0])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_legend_has_room_above_what_is_drawn(scale: str):
    axes = Figure().subplots()
    axes.set_yscale(scale)
    axes.plot([0, 1], [0.6, 30.0], "o")
    drawing.make_room(axes, 0.25)
    top = axes.transAxes.inverted().transform(axes.transData.transform((1, 30.0)))[1]
    assert 0.6 < top < 0.75


def test_a_legend_hides_no_point_of_a_panel_of_categories(monkeypatch: pytest.MonkeyPatch):
    names = ["HMC, length 1", "HMC, tuned", "Wolff", "flow, software", "flow, array", "p", "q"]
    rising = [
        Point(name, x, 10.0 ** (x + k / 7), 0.0) for k, name in enumerate(names) for x in range(3)
    ]
    panel = Panel("3b", "t", "x", "y", rising, categories=("4", "6", "12"), log_y=True)
    figure_ = Figure(figsize=(5, 4))
    axes = figure_.subplots()
    FigureCanvasAgg(figure_)
    drawing.draw_panel(axes, panel)
    figure_.canvas.draw()
    box = axes.get_legend().get_window_extent()
    for point in rising:
        assert axes.transData.transform((point.x, point.value))[1] < box.y0


@pytest.mark.parametrize(("name", "places"), [("fig3", 10), ("fig4", 12)])
def test_tables_hold_every_panel(
    name: str, places: int, folder3: Path, folder4: Path, context3: Context, context4: Context
):
    folder = {"fig3": folder3, "fig4": folder4}[name]
    with (folder / f"{name}.csv").open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    found = json.loads((folder / f"{name}.json").read_text("utf-8"))
    assert len(found["rows"]) == len(table)
    panels = {row["panel"] for row in table} | set(found["missing"])
    assert panels == {f"{name[-1]}{letter}" for letter in "abcdefghijkl"[:places]}


def test_a_model_that_is_not_shipped_is_named_and_the_panel_drawn(
    context4: Context, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rram_host.flows.checkpoint.shipped", dict)
    rest = {key: value for key, value in context4.samples.items() if key[0] != SOFTWARE}
    panels = figure.panels(Context(SMALL4, rest))
    said = {panel.place: panel.missing for panel in panels}
    assert "not shipped: graphene_L6_g1_m0.2" in said["4f"]
    assert not any(job.method == SOFTWARE for job in jobs(SMALL4))


def test_every_measured_point_has_an_error(context3: Context, context4: Context):
    for context in (context3, context4):
        for panel in figure.panels(context):
            for point in panel.points:
                counted = "these" in point.series or "paper" in point.series
                # rho(0) and empty bins of a histogram vary with nothing
                empty = point.value == 0.0 or (panel.place in ("3a", "4e") and point.x == 0)
                assert counted or empty or point.error > 0.0, (panel.place, point)


@pytest.mark.parametrize("name", ["absM", "chi2", "E"])
@pytest.mark.parametrize("method", [HMC, HMC_1, SOFTWARE])
def test_samples_agree_with_exact_values(context3: Context, method: str, name: str):
    system = SMALL3.compared[0]
    exact = known(system, name)
    assert exact is not None
    value, error = analysis.mean(context3.samples[method, system], name)
    # 4 standard errors: nine comparisons, of fixed seeds
    assert abs(value - exact[0]) < 4 * error


def test_the_gap_and_the_condensate_are_exact_at_zero_mass(context4: Context):
    for place in ("4c", "4d"):
        (panel,) = (p for p in figure.panels(context4) if p.place == place)
        point = next(p for p in panel.points if p.series == HMC and p.x == 0.0)
        exact = panel.lines[0].y[0]
        # 4 standard errors, of fixed seeds
        assert abs(point.value - exact) < 4 * point.error


def test_trajectories_of_length_one():
    chosen = tuned("hmc", Phi4Action(-4.0, 5.0), (12, 12))
    assert isinstance(chosen, HmcSettings)
    plain = of_length_one(chosen)
    assert plain.step * plain.steps == pytest.approx(1.0)
    assert plain.step <= chosen.step
    assert plain.jitter == 0.0


def test_an_exact_flow_has_ess_one_and_independent_samples():
    found = proposals(Gaussian(), Normal(), 64, 3, lambda done, total: None)
    assert analysis.ess(found) == pytest.approx(np.ones(REPEATS))
    assert found["acceptance"] == pytest.approx(np.ones(REPEATS))
    # 640 independent values: rho(1) has a standard error of 0.04
    rho, error = analysis.autocorrelation(found, "M", 3)
    assert rho[0] == pytest.approx(1.0)
    assert abs(rho[1]) < 4 * error[1]
    values, errors = analysis.density(found, EDGES)
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    normal = np.exp(-0.5 * middle**2) / np.sqrt(2 * np.pi)
    inside = np.diff(EDGES) @ normal  # bins end at +-2.5
    assert np.all(np.abs(values - normal / inside) < 6 * errors + 0.05)


def test_a_flow_on_an_emulated_array_counts_board_time(tmp_path: Path):
    plan = replace(
        SMALL3,
        array_lengths=(4,),
        array_proposals=16,
        board="sim://?preset=ideal&seed=1",
        deploy=DeployPlan(lora_steps=0, calibration_turns=0, read_average=1),
    )
    (job,) = (job for job in jobs(plan) if job.method == ARRAY)
    found = job.make(lambda done, total: None)
    # 40 products of a configuration, each within a tenth of 94 us
    assert found["board_s"] / (REPEATS * 16 * 40) == pytest.approx(94e-6, rel=0.1)
    assert found["arrays"] == 1
    assert analysis.ess(found).mean() > 0.8  # 0.97 for large N; an array in disorder gives 1 / 16


def test_error_against_n_falls_as_the_square_root():
    rng = np.random.default_rng(5)
    sample = {"chi2": 1.0 + 0.1 * rng.standard_normal((100, 1024))}
    for n, error, doubt in analysis.error_against_n(sample, "chi2"):
        # four of its own standard errors, six values of a fixed seed
        assert abs(error - 0.1 / np.sqrt(n)) < 4 * doubt


def test_rows_name_categories():
    panel = Panel(
        "3b", "t", "lattice", "τ", [Point("a", 1, 2.0, 0.1)], categories=("L = 4", "L = 6")
    )
    (row,) = rows([panel])
    assert (row["x"], row["value"], row["error"]) == ("L = 6", 2.0, 0.1)


def test_an_unknown_figure_is_refused():
    with pytest.raises(InputError, match="no figure 'fig5'"):
        figure.plan_of("fig5")


def test_the_command_writes_what_it_says(
    folder4: Path, context4: Context, monkeypatch: pytest.MonkeyPatch
):
    undrawn(monkeypatch)
    monkeypatch.setattr(figure, "plan_of", lambda name, short: SMALL4)
    arguments = ["figures", "fig4", "--out", str(folder4), "--json"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    values = json.loads(result.stdout)
    assert values["finished"] is True
    assert Path(values["picture"]).is_file()
    assert values["rows"]


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path: Path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(cli, ["figures", "fig3", "--out", str(tmp_path / "file" / "x")])
    assert isinstance(result.exception, InputError)


def test_a_system_knows_its_file():
    assert phi4(4, 5.5).weights is not None
    assert System(Phi4Action(-4.0, 5.5), 4, "no such model").weights is None


def test_how_long_arrays_take_is_told_with_the_name_of_the_flow(monkeypatch: pytest.MonkeyPatch):
    def deploy(boards: object, loaded: object, plan: object, steps: Steps) -> None:
        steps.tell("about 3 min")
        raise InputError("enough")

    monkeypatch.setattr(samples, "open_boards", lambda *_: nullcontext([]))
    monkeypatch.setattr(samples, "deploy_flow", deploy)
    told: list[str] = []
    with pytest.raises(InputError, match="enough"):
        jobs(replace(SMALL3, array_lengths=(4,)), told.append)[-1].make(lambda *_: None)
    assert told == ["phi4_L4: about 3 min"]
