with

invoices as (
    select * from {{ source('online_retail', 'invoices') }}
),

read_codes as (
    select
        *,
        upper(trim(StockCode)) as item_id,
        InvoiceNo ilike 'C%' as is_cancellation
    from invoices
),

final as (
    select
        -- ids: the source has none, so rows that are equal in all columns are one event
        {{ row_key([
            'InvoiceNo', 'StockCode', 'Description', 'Quantity', 'InvoiceDate', 'UnitPrice', 'CustomerID', 'Country'
        ]) }} as event_id,
        CustomerID::string as user_id,
        item_id::string as item_id,
        InvoiceNo::string as session_id,
        -- strings
        (case when is_cancellation then 'return' end)::string as event_type,
        concat_ws(
            ',',
            case when not {{ matches('item_id', '^[0-9]{5}[A-Z]*$') }} then 'no_product' end,
            case when UnitPrice <= 0 then 'bad_price' end
        )::string as source_reasons,
        ''::string as unreadable,
        -- numbers
        (case when is_cancellation then -Quantity else Quantity end)::decimal(18, 4) as quantity,
        UnitPrice::decimal(18, 4) as price,
        null::decimal(18, 4) as rating,
        -- times: in the shop's local time
        InvoiceDate::timestamp as event_at
    from read_codes
)

select * from final
