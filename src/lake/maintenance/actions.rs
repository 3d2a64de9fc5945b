//! The columns of a checkpoint, and log actions as its rows.

use std::sync::Arc;

use deltalake::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use deltalake::arrow::json::ReaderBuilder;
use deltalake::arrow::json::reader::Decoder;
use deltalake::parquet::arrow::AsyncArrowWriter;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::properties::WriterProperties;

use crate::lake::error::of_the_store;
use crate::lake::upload::Upload;
use crate::limits::{CHECKPOINT_GROUP_BYTES, CHECKPOINT_GROUP_ROWS};

const BATCH_ROWS: usize = 1024;

/// The columns, as every engine that writes protocol (1,2) writes them.
pub(super) fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let long = |name| Field::new(name, DataType::Int64, true);
    let flag = |name| Field::new(name, DataType::Boolean, true);
    let number = |name| Field::new(name, DataType::Int32, true);
    let must = |field: Field| field.with_nullable(false);
    let row = |name, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), true);
    Arc::new(Schema::new(vec![
        row("txn", vec![must(text("appId")), must(long("version")), long("lastUpdated")]),
        row(
            "add",
            vec![
                must(text("path")),
                map("partitionValues"),
                must(long("size")),
                must(long("modificationTime")),
                must(flag("dataChange")),
                text("stats"),
                map("tags"),
            ],
        ),
        row(
            "remove",
            vec![
                must(text("path")),
                long("deletionTimestamp"),
                must(flag("dataChange")),
                flag("extendedFileMetadata"),
                map("partitionValues"),
                long("size"),
                map("tags"),
            ],
        ),
        row(
            "metaData",
            vec![
                must(text("id")),
                text("name"),
                text("description"),
                row("format", vec![text("provider"), map("options")]),
                must(text("schemaString")),
                list("partitionColumns"),
                map("configuration"),
                long("createdTime"),
            ],
        ),
        row(
            "protocol",
            vec![
                must(number("minReaderVersion")),
                must(number("minWriterVersion")),
                list("readerFeatures"),
                list("writerFeatures"),
            ],
        ),
    ]))
}

fn map(name: &str) -> Field {
    let entries =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    let entries = Field::new("key_value", DataType::Struct(entries), false);
    Field::new(name, DataType::Map(Arc::new(entries), false), true)
}

fn list(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true)
}

/// Turns actions into a checkpoint file, a batch at a time.
pub(super) struct ActionsFile {
    decoder: Decoder,
    writer: AsyncArrowWriter<Upload>,
    actions: u64,
}

impl ActionsFile {
    pub fn begin(upload: Upload) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("pintail ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(CHECKPOINT_GROUP_ROWS))
            .build();
        let schema = schema();
        let decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(BATCH_ROWS).build_decoder()?;
        Ok(Self { decoder, writer: AsyncArrowWriter::try_new(upload, schema, Some(properties))?, actions: 0 })
    }

    /// Adds JSON lines, one action each.
    pub async fn push(&mut self, mut lines: &[u8]) -> Result<()> {
        while !lines.is_empty() {
            let used = self.decoder.decode(lines)?;
            lines = &lines[used..];
            if !lines.is_empty() {
                self.write().await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        if let Some(batch) = self.decoder.flush()? {
            self.actions += batch.num_rows() as u64;
            self.writer.write(&batch).await?;
            if self.writer.in_progress_size() > CHECKPOINT_GROUP_BYTES {
                self.writer.flush().await?;
            }
        }
        Ok(())
    }

    /// Makes the file visible; returns how many actions and bytes it has.
    pub async fn finish(mut self) -> Result<(u64, u64)> {
        let finished = match self.write().await {
            Ok(()) => self.writer.finish().await,
            Err(error) => Err(error),
        };
        match finished {
            Ok(_) => Ok((self.actions, self.writer.into_inner().bytes())),
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Leaves nothing behind.
    pub async fn abort(self) {
        self.writer.into_inner().abort().await;
    }
}

/// Whether the store has one of this name already.
pub(super) fn is_taken(error: &ParquetError) -> bool {
    matches!(
        of_the_store(error),
        Some(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
    )
}
