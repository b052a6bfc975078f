"""What `tutti init` writes: a task, a model and a loader of one's own that run as they are."""

from importlib import resources
from pathlib import Path

from contract.errors import ErrorCode, TuttiError

FILES = {"task.yaml": "task.yaml", "my_model.py": "my_model.py.txt", "my_data.py": "my_data.py.txt"}


def write(directory: Path) -> list[Path]:
    """Writes the templates into `directory`; returns their paths.

    Raises:
      TuttiError: ARGUMENT_INVALID if one of the files is there already, or the directory cannot be made.
    """
    paths = {directory / name: source for name, source in FILES.items()}
    for path in paths:
        if path.exists():
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{path} exists and is left as it is; choose another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{directory} cannot be made: {error.strerror}") from None
    for path, source in paths.items():
        path.write_text(resources.files("tutti.template_files").joinpath(source).read_text(encoding="utf-8"), encoding="utf-8")
    return list(paths)
