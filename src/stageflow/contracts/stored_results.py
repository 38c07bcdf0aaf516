"""The results of closed stages, read from the store when somebody looks at them."""

from collections.abc import Callable, Iterator, Mapping

from stageflow.contracts.ids import stage_key
from stageflow.contracts.stage_result import StageResultContract


class StoredStageResults(Mapping[str, StageResultContract]):
    """A mapping from ``"1"``, ``"2"``, … to stage results; each is read once, when it is first asked for.

    Which stages there are is known without reading.
    """

    def __init__(self, loaders: Mapping[int, Callable[[], StageResultContract]]) -> None:
        self._loaders = {stage_key(number): load for number, load in loaders.items()}
        self._read: dict[str, StageResultContract] = {}

    def __getitem__(self, key: str) -> StageResultContract:
        """Return a result, read now if it was not before."""
        if key not in self._read:
            self._read[key] = self._loaders[key]()
        return self._read[key]

    def __iter__(self) -> Iterator[str]:
        """Yield the keys, by stage number."""
        return iter(self._loaders)

    def __len__(self) -> int:
        """Return how many stages there are."""
        return len(self._loaders)

    def __contains__(self, key: object) -> bool:
        """Return whether a stage is there; reads nothing."""
        return key in self._loaders
