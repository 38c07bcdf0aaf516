"""Slope and hillshade of a real elevation model, tile by tile in parallel, put together into one picture.

The data is the model of the Jacksboro fault, Tennessee, that matplotlib ships. Needs numpy and matplotlib. Run it:

    python examples/raster_tiles.py [FOLDER]

Without a folder it makes a temporary one, and says where.
"""

import math
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.image import imsave
from numpy.typing import NDArray
from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    Keyed,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)

METRES_PER_DEGREE = 111_200.0
HALO = 1
"""Cells beyond the edge of a tile that its slopes depend on."""

Raster = NDArray[np.float64]


class Terrain(Contract):
    """What the job is submitted with. Arrays go into the work folder, which all workers must reach; results carry paths.

    Attributes:
        azimuth: Where the light comes from, in degrees clockwise from north.
        altitude: How high it stands, in degrees above the horizon.
    """

    work_folder: str
    tile_size: int = Field(default=128, ge=2)
    azimuth: float = Field(default=315.0, ge=0, le=360)
    altitude: float = Field(default=45.0, gt=0, le=90)


class Grid(Contract):
    """The elevation model, and the size of its cells in metres."""

    path: str
    rows: int
    columns: int
    cell_x: float
    cell_y: float


class TileParameters(Contract):
    """A tile: its first row and column, and its size."""

    grid: Grid
    terrain: Terrain
    row: int
    column: int
    rows: int
    columns: int


class Tile(Contract):
    """A finished tile; slopes in degrees."""

    path: str
    row: int
    column: int
    cells: int
    slope_sum: float
    slope_max: float


class Mosaic(Contract):
    """What the last stage puts together."""

    work_folder: str
    rows: int
    columns: int
    tiles: list[Tile]


class Picture(Contract):
    """The answer; slopes in degrees."""

    path: str
    width: int
    height: int
    tiles: int
    slope_mean: float
    slope_max: float


def slope_and_shade(elevation: Raster, grid: Grid, terrain: Terrain) -> tuple[Raster, Raster]:
    """Return the slope in radians and the share of light, 0 to 1, of each cell.

    Gradients are central differences (one-sided at the edge of the array). The light on a cell is the cosine of the angle
    between the ray and the surface's normal: Horn, "Hill shading and the reflectance map", Proc. IEEE 69 (1981).
    """
    down, right = np.gradient(elevation, grid.cell_y, grid.cell_x)
    slope = np.arctan(np.hypot(right, down))
    aspect = np.arctan2(-right, down)
    azimuth, altitude = math.radians(terrain.azimuth), math.radians(terrain.altitude)
    light = math.sin(altitude) * np.cos(slope) + math.cos(altitude) * np.sin(slope) * np.cos(azimuth - aspect)
    return slope, np.clip(light, 0.0, 1.0)


def save_whole(path: Path, array: Raster) -> None:
    """Write an array so that it is there whole or not at all: a handler may run twice, and at the same time."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)


@task("raster_read")
def read_model(parameters: Terrain, context: TaskExecutionContext) -> Grid:
    """Read the elevation model into the work folder."""
    with np.load(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False)) as model:
        elevation: Raster = model["elevation"].astype(np.float64)
        cell_y = METRES_PER_DEGREE * float(model["dy"])
        cell_x = METRES_PER_DEGREE * float(model["dx"]) * math.cos(math.radians(float(model["ymin"])))
    path = Path(parameters.work_folder) / "elevation.npy"
    save_whole(path, elevation)
    rows, columns = elevation.shape
    return Grid(path=str(path), rows=rows, columns=columns, cell_x=cell_x, cell_y=cell_y)


@task("raster_shade")
def shade_tile(parameters: TileParameters, context: TaskExecutionContext) -> Tile:
    """Compute one tile from its window of the model, a halo wider where the model goes on."""
    row, column = parameters.row, parameters.column
    above, left = min(HALO, row), min(HALO, column)
    model: Raster = np.load(parameters.grid.path, mmap_mode="r")
    window = model[row - above : row + parameters.rows + HALO, column - left : column + parameters.columns + HALO]
    slope, light = slope_and_shade(window, parameters.grid, parameters.terrain)
    context.check()
    inner = np.s_[above : above + parameters.rows, left : left + parameters.columns]
    path = Path(parameters.terrain.work_folder) / f"light-{row}-{column}.npy"
    save_whole(path, light[inner])
    degrees = np.degrees(slope[inner])
    return Tile(
        path=str(path),
        row=row,
        column=column,
        cells=degrees.size,
        slope_sum=float(degrees.sum()),
        slope_max=float(degrees.max()),
    )


@task("raster_assemble")
def assemble(parameters: Mosaic, context: TaskExecutionContext) -> Picture:
    """Put the tiles into one picture, and their statistics into one."""
    light = np.full((parameters.rows, parameters.columns), np.nan)
    for tile in parameters.tiles:
        context.check()
        part: Raster = np.load(tile.path)
        light[tile.row : tile.row + part.shape[0], tile.column : tile.column + part.shape[1]] = part
    path = Path(parameters.work_folder) / "hillshade.png"
    imsave(path, light, cmap="gray", vmin=0.0, vmax=1.0)
    return Picture(
        path=str(path),
        width=parameters.columns,
        height=parameters.rows,
        tiles=len(parameters.tiles),
        slope_mean=sum(tile.slope_sum for tile in parameters.tiles) / sum(tile.cells for tile in parameters.tiles),
        slope_max=max(tile.slope_max for tile in parameters.tiles),
    )


@workflow("raster_tiles")
class RasterController(BaseController[Terrain]):
    """Read, shade in parallel, assemble."""

    reading = stage(1, "read", task=read_model)
    shading = stage(2, "shade", task=shade_tile, after=reading)
    assembly = stage(3, "assemble", task=assemble, after=(reading, shading))

    @reading.plan
    def plan_reading(self, job: JobExecutionContext[Terrain]) -> Iterator[Terrain]:
        """Plan one reading."""
        yield job.parameters

    @shading.plan
    def plan_shading(self, job: JobExecutionContext[Terrain], grids: StageResults[Grid]) -> Iterator[Keyed[TileParameters]]:
        """Plan the tiles that cover the model as it was read; those at the edges are smaller."""
        grid, size = grids[0], job.parameters.tile_size
        for row in range(0, grid.rows, size):
            for column in range(0, grid.columns, size):
                tile = TileParameters(
                    grid=grid,
                    terrain=job.parameters,
                    row=row,
                    column=column,
                    rows=min(size, grid.rows - row),
                    columns=min(size, grid.columns - column),
                )
                yield Keyed(parameters=tile, key=f"{row}/{column}")

    @assembly.plan
    def plan_assembly(
        self,
        job: JobExecutionContext[Terrain],
        grids: StageResults[Grid],
        tiles: StageResults[Tile],
    ) -> Iterator[Mosaic]:
        """Plan one picture of all tiles."""
        grid = grids[0]
        yield Mosaic(work_folder=job.parameters.work_folder, rows=grid.rows, columns=grid.columns, tiles=list(tiles))

    def aggregate_job_results(self, job: JobExecutionContext[Terrain], stage_results: dict[int, StageResults[Any]]) -> Picture:
        """Answer with the picture."""
        return self.assembly.of(stage_results)[0]


def main(folder: str) -> Picture:
    """Run the job in memory, print the statistics, and return them."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with Stageflow("sqlite::memory:") as app:
        job_id = app.run(RasterController, Terrain(work_folder=folder)).job_id
        picture = app.result(job_id, Picture)
    print(f"{picture.width} x {picture.height} cells in {picture.tiles} tiles")
    print(f"slope: mean {picture.slope_mean:.1f} degrees, steepest {picture.slope_max:.1f}")
    print(f"picture: {os.path.relpath(picture.path, folder)}")
    return picture


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        scratch = tempfile.mkdtemp(prefix="raster_tiles_")
        main(scratch)
        print(f"It is in {scratch}, with the tiles; delete the folder when you have seen it.")
