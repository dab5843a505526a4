-- The end of the one statement that stores into series that are there already (app/index/growing.py). A volatile function
-- sees what others committed while the statement waited for its locks; the statement alone sees what was before it.
create function rest_on(is_as_expected boolean, uids text[], told text[])
returns table (key text, at timestamptz, content text) language plpgsql volatile as $$
begin
    if is_as_expected is not true then
        raise no_data_found;
    end if;
    return query select j.key, j.at, j.content from journal j
        where not j.is_kept and j.sop_instance_uids && uids and j.key <> all(told);
end
$$;
