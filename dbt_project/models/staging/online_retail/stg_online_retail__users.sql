with

invoices as (
    select * from {{ source('online_retail', 'invoices') }}
),

placed as (
    select
        CustomerID as user_id,
        InvoiceDate as valid_from,
        min(Country) as country
    from invoices
    where CustomerID is not null and InvoiceDate is not null
    group by 1, 2
),

compared as (
    select
        *,
        lag(country) over (partition by user_id order by valid_from) as country_before
    from placed
),

final as (
    select
        -- ids
        user_id::string as user_id,
        -- strings
        country::string as segment,
        {{ attribute_columns('user', none) }}
        -- times
        valid_from::timestamp as valid_from
    from compared
    where country is distinct from country_before
)

select * from final
