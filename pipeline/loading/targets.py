"""The three tables as loading sees them: which record their files hold, and which values they give to the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from hashlib import blake2b
from typing import Generic, Literal, TypeAlias, TypeVar
from uuid import UUID

from pipeline.loading.columns import KnownColumns
from pipeline.loading.event_records import EventRecord
from pipeline.loading.lines import Cell
from pipeline.loading.records import CustomerRecord, FileRecord, ProductRecord
from pipeline.loading.statements import INTO_CUSTOMERS, INTO_EVENTS, INTO_PRODUCTS, TableStatements, Values

TableName = Literal["customers", "products", "events"]
RecordT = TypeVar("RecordT", bound=FileRecord)


@dataclass(frozen=True, slots=True)
class Target(Generic[RecordT]):
    """How the lines of a file become rows of one table."""

    record: type[RecordT]
    values: Callable[[RecordT], Values]
    known: KnownColumns
    into: TableStatements

    def row(self, cells: Mapping[str, Cell], zone: tzinfo) -> Values:
        """The table's values for one line.

        Raises:
            pydantic.ValidationError, PydanticCustomError: a cell is not fit for the table.
        """
        return self.values(self.record.from_cells(cells, zone))


def customer_values(record: CustomerRecord) -> Values:
    """A customer as `recstream_incoming` takes it."""
    told = (record.customer_id, record.active, record.time_zone, record.attributes_json())
    return (*told, _digest(told))


def product_values(record: ProductRecord) -> Values:
    """A product as `recstream_incoming` takes it."""
    told = (
        record.product_id,
        record.name,
        record.description,
        record.brand,
        record.category,
        record.price,
        record.available,
        record.hidden,
        record.attributes_json(),
    )
    return (*told, _digest(told))


def event_values(record: EventRecord) -> Values:
    """An event as `recstream_incoming` takes it."""
    return (
        record.event_key(),
        record.customer_id,
        record.product_id,
        record.kind,
        record.value,
        record.text,
        record.occurred_at,
        record.run_id,
        record.rank,
        record.response,
    )


def _digest(told: Values) -> UUID:
    return UUID(bytes=blake2b(repr(told).encode(), digest_size=16).digest())


def _known(record: type[FileRecord], *required: str, keeps_others: bool) -> KnownColumns:
    attributes = {"attributes"} if keeps_others else set()
    return KnownColumns(required, record.columns | record.named_attributes | attributes, keeps_others)


CUSTOMERS = Target(
    record=CustomerRecord,
    values=customer_values,
    known=_known(CustomerRecord, "customer_id", keeps_others=True),
    into=INTO_CUSTOMERS,
)
PRODUCTS = Target(
    record=ProductRecord,
    values=product_values,
    known=_known(ProductRecord, "product_id", "name", keeps_others=True),
    into=INTO_PRODUCTS,
)
EVENTS = Target(
    record=EventRecord,
    values=event_values,
    known=_known(EventRecord, "customer_id", "kind", "occurred_at", keeps_others=False),
    into=INTO_EVENTS,
)

AnyTarget: TypeAlias = Target[CustomerRecord] | Target[ProductRecord] | Target[EventRecord]
TARGETS: Mapping[TableName, AnyTarget] = {"customers": CUSTOMERS, "products": PRODUCTS, "events": EVENTS}
