"""What the commands of `ecotta student` do, as functions: pictures and networks by name or in memory, a result out."""

__all__: list[str] = []
