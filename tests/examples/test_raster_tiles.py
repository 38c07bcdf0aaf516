"""The raster example: its picture is compared with one that was computed in one piece."""

import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from stageflow import JobRegistry
from stageflow.testing import run_workflow, task_context

SCRIPT = Path(__file__).parents[2] / "examples" / "raster_tiles.py"


@pytest.fixture(scope="module")
def raster() -> Iterator[ModuleType]:
    """Give the example as a module; its workflow goes into the default registry."""
    spec = spec_from_file_location("raster_tiles_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def registry(raster: ModuleType) -> JobRegistry:
    """Give a registry with the example's workflow."""
    registry = JobRegistry()
    registry.register(raster.RasterController, "raster_tiles")
    return registry


def test_the_script_draws_the_picture(run_example: Callable[..., list[str]], tmp_path: Path) -> None:
    """It prints the size and plausible slopes, and leaves a picture with light and shade."""
    size, slopes, picture = run_example("raster_tiles.py", str(tmp_path))
    assert size == "403 x 344 cells in 12 tiles"
    assert picture == "picture: hillshade.png"
    numbers = re.fullmatch(r"slope: mean ([\d.]+) degrees, steepest ([\d.]+)", slopes)
    assert numbers is not None
    assert 5 < float(numbers[1]) < 20 < float(numbers[2]) < 60
    pixels = imread(tmp_path / "hillshade.png")
    assert pixels.shape[:2] == (344, 403)
    assert pixels[..., 0].std() > 0.05
    assert (pixels[..., 0] == pixels[..., 1]).all()


def test_without_a_folder_the_picture_is_kept_where_the_script_says(
    run_example: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """A picture that is named is there to be looked at."""
    *_, picture, place = run_example("raster_tiles.py", TMPDIR=str(tmp_path))
    (folder,) = tmp_path.glob("raster_tiles_*")
    assert (picture, str(folder) in place) == ("picture: hillshade.png", True)
    assert (folder / "hillshade.png").stat().st_size > 0


@pytest.mark.parametrize(("tile_size", "tiles"), [(128, 12), (100, 20), (500, 1)])
def test_tiles_make_the_same_picture_as_one_piece(
    raster: ModuleType,
    registry: JobRegistry,
    tmp_path: Path,
    tile_size: int,
    tiles: int,
) -> None:
    """Whatever the tiling, no seam shows: every pixel and the statistics equal those of the whole model."""
    terrain = raster.Terrain(work_folder=str(tmp_path), tile_size=tile_size)
    run = run_workflow(raster.RasterController, terrain, registry=registry)
    run.assert_completed()
    run.assert_stage(2, tasks=tiles, completed=tiles)
    grid = raster.read_model(terrain, task_context())
    slope, light = raster.slope_and_shade(np.load(grid.path), grid, terrain)
    for tile in run.results(raster.RasterController.shading):
        part = np.load(tile.path)
        window = light[tile.row : tile.row + part.shape[0], tile.column : tile.column + part.shape[1]]
        np.testing.assert_allclose(part, window, rtol=0, atol=1e-12)
    imsave(tmp_path / "whole.png", light, cmap="gray", vmin=0.0, vmax=1.0)
    picture = run.answer
    assert isinstance(picture, raster.Picture)
    difference = np.abs(imread(picture.path) - imread(tmp_path / "whole.png"))
    assert difference.max() == 0
    assert picture.slope_mean == pytest.approx(np.degrees(slope).mean())
    assert picture.slope_max == pytest.approx(np.degrees(slope).max())


def test_light_falls_as_geometry_says(raster: ModuleType) -> None:
    """Flat land under light at 30 degrees is half lit; a slope that faces the light is lit most, its back is dark."""
    grid = raster.Grid(path="", rows=3, columns=3, cell_x=1.0, cell_y=1.0)
    terrain = raster.Terrain(work_folder="", azimuth=90.0, altitude=30.0)
    flat, light = raster.slope_and_shade(np.zeros((3, 3)), grid, terrain)
    assert flat.max() == 0
    np.testing.assert_allclose(light, 0.5)
    falls_to_the_east = -np.tan(np.radians(60.0)) * np.arange(3.0) * np.ones((3, 1))
    slope, light = raster.slope_and_shade(falls_to_the_east, grid, terrain)
    np.testing.assert_allclose(np.degrees(slope), 60.0)
    np.testing.assert_allclose(light, 1.0)
    _, light = raster.slope_and_shade(-falls_to_the_east, grid, terrain)
    np.testing.assert_allclose(light, 0.0)
    falls_to_the_north = np.tan(np.radians(60.0)) * np.arange(3.0)[:, None] * np.ones((1, 3))
    northern = raster.Terrain(work_folder="", azimuth=0.0, altitude=30.0)
    np.testing.assert_allclose(raster.slope_and_shade(falls_to_the_north, grid, northern)[1], 1.0)
