-- Who remembers what was found is told when it may be true no more: an instance goes or is renewed, a rendition
-- comes to be ready, changes or goes. The rows themselves tell, so that no statement can forget to.
create function tell_of_change() returns trigger language plpgsql as $$
begin
    perform pg_notify('archive_changed', '');
    return null;
end $$;

create trigger instance_changed after update or delete on instance
    for each row execute function tell_of_change();
create trigger rendition_changed after update of state, object_key on rendition
    for each row when (old.state = 'ready' or new.state = 'ready') execute function tell_of_change();
create trigger rendition_gone after delete on rendition
    for each row when (old.state = 'ready') execute function tell_of_change();
