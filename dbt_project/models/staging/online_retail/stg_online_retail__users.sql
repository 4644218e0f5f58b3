with

invoices as (
    select * from {{ source('online_retail', 'invoices') }}
),

final as (
    select
        -- ids
        CustomerID::string as user_id,
        -- strings: the country of the latest invoice
        Country::string as segment,
        {{ attribute_columns('user', none) }}
        -- times
        {{ valid_from(none) }} as valid_from
    from invoices
    where CustomerID is not null
    qualify row_number() over (partition by CustomerID order by InvoiceDate desc, Country) = 1
)

select * from final
